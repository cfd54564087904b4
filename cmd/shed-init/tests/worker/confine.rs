//! A confined command can only write to the given paths. It is not started if the kernel cannot confine it.

use shed_link::spool::Item;
use shed_link::{Confine, Refusal, Status};

use crate::support::{Shed, epoch, line};

fn paths(paths: &[&std::path::Path]) -> Confine {
    Confine { write: paths.iter().map(|path| path.to_string_lossy().into_owned()).collect() }
}

#[test]
fn a_confined_command_only_writes_to_the_given_paths() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let (inside, outside) = (shed.work().join("inside"), shed.work().join("outside"));
    // Not in shared memory, which stays writable and where the test's own directory may be.
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &outside).unwrap();
    std::fs::create_dir(&inside).unwrap();
    for dir in [&inside, &outside] {
        std::fs::write(dir.join("old"), "old").unwrap();
    }
    let script = "echo a > inside/new || exit 10; mv inside/new inside/newer || exit 11; \
                  rm inside/old || exit 12; cat outside/old > /dev/null || exit 13; \
                  echo x > /dev/tty || exit 14; \
                  echo a 2>/dev/null > outside/new && exit 20; rm -f outside/old 2>/dev/null && exit 21; \
                  truncate -s 0 outside/old 2>/dev/null && exit 22; mv inside/newer outside/ 2>/dev/null && exit 23; \
                  mkdir outside/dir 2>/dev/null && exit 24; ln -s x outside/link 2>/dev/null && exit 25; \
                  setsid sh -c 'echo a > outside/new' 2>/dev/null && exit 26; exit 0";
    let mut plan = line(of, script);
    plan.confine = Some(paths(&[&inside]));
    shed.run(plan);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (output, items) = collector.read_all(of, 0);
    match items.last().unwrap() {
        // The kernel or the container's seccomp profile does not support Landlock.
        Item::Refused { refusal: Refusal::CannotConfine(_), .. } => {
            assert!(!inside.join("newer").exists(), "it ran unconfined");
        }
        Item::Exit { status, .. } => {
            assert_eq!(*status, Status::Code(0), "{}", String::from_utf8_lossy(&output));
            assert_eq!(std::fs::read_to_string(outside.join("old")).unwrap(), "old");
            assert!(!outside.join("new").exists());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_command_that_cannot_be_confined_as_requested_is_not_started() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    let mut plan = line(of, "touch ran");
    plan.confine = Some(paths(&[&shed.work(), &shed.work().join("missing")]));
    shed.run(plan);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (_, items) = collector.read_all(of, 0);
    assert!(
        matches!(items.last(), Some(Item::Refused { refusal: Refusal::CannotConfine(_), .. })),
        "{items:?}"
    );
    assert!(!shed.work().join("ran").exists());
}

#[test]
fn a_confined_command_commits_in_a_worktree_and_cannot_configure_the_repository() {
    let shed = Shed::new();
    let of = epoch(1, 1);
    // Not in `/tmp`, which may be writable for other reasons.
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let top = outside.path();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t"];
        let mut git = std::process::Command::new("git");
        let ran = git.args(identity).args(words).current_dir(top).status().unwrap();
        assert!(ran.success(), "{words:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&["worktree", "add", "-q", "tree"]);
    let script = format!(
        "cd {} && echo x > new && git add new || exit 10; \
         git -c user.name=t -c user.email=t commit -q -m mine || exit 11; \
         git config a.b c 2>/dev/null && exit 20; \
         echo x 2>/dev/null > {}/.git/hooks/pre-commit && exit 21; exit 0",
        top.join("tree").display(),
        top.display()
    );
    let mut plan = line(of, &script);
    let of_git = ["worktrees/tree", "objects", "refs", "logs"];
    let mut write: Vec<_> = of_git.iter().map(|name| top.join(".git").join(name)).collect();
    write.push(top.join("tree"));
    plan.confine = Some(paths(&write.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>()));
    shed.run(plan);
    let mut collector = shed.collector();
    collector.found(of);
    collector.follow(of, 0);
    let (output, items) = collector.read_all(of, 0);
    match items.last().unwrap() {
        Item::Refused { refusal: Refusal::CannotConfine(_), .. } => {}
        Item::Exit { status, .. } => {
            assert_eq!(*status, Status::Code(0), "{}", String::from_utf8_lossy(&output));
        }
        other => panic!("{other:?}"),
    }
}
