//! Terminals: shells and sessions as a person has them.

use shed_api::Scope;
use shed_testing::{Terminal, Transport, over_each_transport};

use crate::support::Door;

over_each_transport! {
    a_terminal_has_its_size_from_the_first_byte_and_follows_changes
    a_terminal_has_the_clients_size_in_pixels
    a_session_is_made_attached_to_and_lives_on
    a_terminal_is_as_the_client_has_it
    a_program_in_a_terminal_reports_its_status
}

async fn a_terminal_has_its_size_from_the_first_byte_and_follows_changes(transport: Transport) {
    let door = Door::open_on(transport).await;
    let line = "stty size; trap 'stty size' WINCH; echo $TERM; while :; do read -t 0.05 x; done";
    let mut screen = Terminal::start(door.ssh("a", &["-t", "door", line]), 101, 33);
    screen.until("33 101\r\nxterm-256color\r\n").await;
    screen.resize(77, 22);
    screen.until("22 77\r\n").await;
    // `~.` is the client's own end.
    screen.keys("\r~.").await;
    assert_eq!(screen.end().await.1, Some(255));
}

async fn a_terminal_has_the_clients_size_in_pixels(transport: Transport) {
    let door = Door::open_on(transport).await;
    let show = "import fcntl, termios, struct; \
                print(*struct.unpack('4H', fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))))";
    let line = format!(
        "p=\"{show}\"; trap 'python3 -c \"$p\"' WINCH; python3 -c \"$p\"; while :; do read -t 0.05 x; done"
    );
    let mut screen = Terminal::start(door.ssh("a", &["-t", "door", &line]), 101, 33);
    screen.until("33 101 808 528\r\n").await;
    screen.resize(77, 22);
    screen.until("22 77 616 352\r\n").await;
}

async fn a_session_is_made_attached_to_and_lives_on(transport: Transport) {
    let door = Door::open_on(transport).await;
    for (user, number) in [("a+work", 42), ("a/work", 43)] {
        let mut screen = Terminal::start(door.ssh(user, &["-t", "door"]), 90, 25);
        screen.keys(&format!("echo $(({number} + 0))-$(stty size)\r")).await;
        // tmux keeps a line for its status.
        screen.until(&format!("{number}-24 90")).await;
        screen.keys("\x02d").await;
        let (seen, status) = screen.end().await;
        assert_eq!(status, Some(0), "{seen}");
        assert!(seen.contains("[detached (from session work)]"), "{seen}");
    }
    let sessions = door.test.app.sessions().get(
        &door.test.admin,
        &"a".parse().unwrap(),
        &"work".parse().unwrap(),
    );
    assert_eq!(sessions.unwrap().name, "work");
}

#[tokio::test(flavor = "multi_thread")]
async fn scope_read_attaches_read_only() {
    let door = Door::open().await;
    door.key("reader", Scope::Read, &[]).await;
    let mut writer = Terminal::start(door.ssh("a+work", &["-t", "door"]), 80, 24);
    writer.keys("echo from-the-$((1))-writer\r").await;
    writer.until("from-the-1-writer").await;
    door.configure("reader");
    let mut reader = Terminal::start(door.ssh("a+work", &["-t", "door"]), 80, 24);
    reader.until("from-the-1-writer").await;
    reader.keys("echo from-the-$((2))-reader\r").await;
    // What the reader typed is older than this, so it would show before it.
    writer.keys("echo from-the-$((3))-writer\r").await;
    let seen = reader.until("from-the-3-writer").await;
    assert!(!seen.contains("reader"), "{seen}");
}

async fn a_terminal_is_as_the_client_has_it(transport: Transport) {
    let door = Door::open_on(transport).await;
    // The modes are set when the program runs already.
    let line = "until stty -a | grep -q -e -ixon; do :; done; stty -a";
    let mut local = door.ssh("a", &["-t", "door", line]).into_std();
    let line = format!(
        "stty -ixon erase ^H intr ^K eof ^E kill ^P susp ^Y quit undef; exec ssh {}",
        local
            .get_args()
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect::<Vec<_>>()
            .join(" ")
    );
    local = std::process::Command::new("sh");
    local.args(["-c", &line]);
    let (seen, status) = Terminal::start(local.into(), 80, 24).end().await;
    assert_eq!(status, Some(0), "{seen}");
    let characters = ["intr = ^K;", "eof = ^E;", "kill = ^P;", "susp = ^Y;", "quit = <undef>;"];
    for word in
        characters.into_iter().chain(["erase = ^H;", " -ixon ", " iutf8", " icanon", " echo "])
    {
        assert!(seen.contains(word), "{word} is not in {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_session_has_the_locale_variables_of_its_creator() {
    let door = Door::open().await;
    for (name, lang, in_shed) in [("one", "xx_XX.UTF-8", "C.UTF-8"), ("two", "POSIX", "POSIX")] {
        let set = format!("SetEnv=LANG={lang} COLORTERM=truecolor FOO=bar");
        let user = format!("a+{name}");
        let mut screen = Terminal::start(door.ssh(&user, &["-o", &set, "-t", "door"]), 80, 24);
        screen.keys("echo \"[$LANG $COLORTERM $FOO]\"\r").await;
        screen.until(&format!("[{in_shed} truecolor ]")).await;
    }
}

async fn a_program_in_a_terminal_reports_its_status(transport: Transport) {
    let door = Door::open_on(transport).await;
    let mut screen = Terminal::start(door.ssh("a", &["-t", "door"]), 80, 24);
    screen.keys("echo $((6 * 7))\r").await;
    screen.until("42\r\n").await;
    screen.keys("exit 9\r").await;
    assert_eq!(screen.end().await.1, Some(9));
    // Ctrl-C goes through the terminal.
    let line = "trap 'echo caught; exit 5' INT; echo go; while :; do sleep 0.01; done";
    let mut screen = Terminal::start(door.ssh("a", &["-t", "door", line]), 80, 24);
    screen.until("go").await;
    screen.keys("\x03").await;
    let (seen, status) = screen.end().await;
    assert!(seen.contains("caught"), "{seen}");
    assert_eq!(status, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_name_and_a_pipe_has_none() {
    let door = Door::open().await;
    let ssh = door.ssh("a", &["-t", "door", "test \"$SSH_TTY\" = \"$(tty)\" && echo its-own"]);
    let (seen, _) = Terminal::start(ssh, 80, 24).end().await;
    assert!(seen.contains("its-own"), "{seen}");
    assert_eq!(door.run("echo \"[$SSH_TTY]\"").await.text(), "[]\n");
}
