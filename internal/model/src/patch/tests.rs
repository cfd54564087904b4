//! Patches as git prints them, and as nobody should.

use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Patch {
    parse(text.as_bytes(), Extent::Whole)
}

#[test]
fn a_changed_file_has_numbered_lines() {
    let patch = whole(
        "diff --git a/src/x y.rs b/src/x y.rs\nindex 12..34 100644\n--- a/src/x y.rs\t\n+++ b/src/x y.rs\t\n\
         @@ -3,3 +3,3 @@ fn main() {\n one\n-two\n+TWO\n--- three\n+++ three\n\\ No newline at end of file\n",
    );
    assert!(!patch.truncated);
    let [file] = patch.files.as_slice() else { panic!("{patch:?}") };
    assert_eq!((file.path.as_str(), file.status), ("src/x y.rs", FileStatus::Modified));
    assert_eq!(file.old_mode.as_deref(), Some("100644"));
    assert_eq!((file.insertions, file.deletions), (2, 2));
    let hunk = &file.hunks[0];
    assert_eq!(hunk.section, "fn main() {");
    let lines: Vec<_> = hunk
        .lines
        .iter()
        .map(|line| (line.kind, line.old, line.new, line.text.as_str(), line.no_newline))
        .collect();
    assert_eq!(
        lines,
        [
            (LineKind::Context, Some(3), Some(3), "one", false),
            (LineKind::Deleted, Some(4), None, "two", false),
            (LineKind::Added, None, Some(4), "TWO", false),
            (LineKind::Deleted, Some(5), None, "-- three", false),
            (LineKind::Added, None, Some(5), "++ three", true),
        ]
    );
}

#[test]
fn new_deleted_renamed_binary_and_mode_changes_are_told() {
    let patch = whole(
        "diff --git a/n b/n\nnew file mode 100755\nindex 0..1\n--- /dev/null\n+++ b/n\n@@ -0,0 +1 @@\n+x\n\
         diff --git a/d b/d\ndeleted file mode 100644\nindex 1..0\n--- a/d\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
         diff --git a/old b/new\nsimilarity index 90%\nrename from old\nrename to new\n\
         diff --git a/b b/b b/b b/b\nindex 1..2 100644\nBinary files a/b b/b and b/b b/b differ\n\
         diff --git \"a/q\\n\\377\" \"b/q\\n\\377\"\nold mode 100644\nnew mode 100755\n",
    );
    let seen: Vec<_> = patch
        .files
        .iter()
        .map(|file| {
            (file.status, file.path.as_str(), file.old_mode.as_deref(), file.new_mode.as_deref())
        })
        .collect();
    assert_eq!(
        seen,
        [
            (FileStatus::Added, "n", None, Some("100755")),
            (FileStatus::Deleted, "d", Some("100644"), None),
            (FileStatus::Renamed, "new", None, None),
            (FileStatus::Modified, "b b/b", Some("100644"), Some("100644")),
            (FileStatus::Modified, "\"q\\n\\377\"", Some("100644"), Some("100755")),
        ]
    );
    assert_eq!(patch.files[2].old_path.as_deref(), Some("old"));
    assert_eq!(patch.files[2].similarity, Some(90));
    assert!(patch.files[3].binary);
}

#[test]
fn a_line_that_looks_like_a_header_is_a_line() {
    let patch = whole(
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-diff --git a/y b/y\n-@@ -1 +1 @@\n+z\n",
    );
    assert_eq!(patch.files.len(), 1);
    assert_eq!(patch.files[0].hunks.len(), 1);
    assert_eq!(patch.files[0].deletions, 2);
}

#[test]
fn a_cut_patch_says_so() {
    let text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n a\n-b";
    let patch = parse(text.as_bytes(), Extent::Cut);
    assert!(patch.truncated && patch.files[0].truncated);
    assert_eq!(patch.files[0].hunks[0].lines.len(), 2);
}

#[test]
fn a_flood_of_lines_or_files_ends_at_the_limit() {
    let mut text = format!("diff --git a/x b/x\n@@ -0,0 +1,{} @@\n", 2 * MAX_LINES);
    text.push_str(&"+\n".repeat(2 * MAX_LINES));
    let patch = whole(&text);
    assert!(patch.truncated && patch.files[0].truncated);
    assert_eq!(patch.files[0].hunks[0].lines.len(), MAX_LINES - 1);
    let patch = whole(&"diff --git a/x b/x\n".repeat(MAX_FILES + 1));
    assert!(patch.truncated);
    assert_eq!(patch.files.len(), MAX_FILES);
    let patch = whole(&format!("diff --git a/x b/x\n{}", "@@ -1 +1 @@\n".repeat(2 * MAX_LINES)));
    assert!(patch.truncated && patch.files[0].hunks.len() <= MAX_LINES + 1);
}

#[test]
fn numbers_no_file_has_do_not_break_it() {
    let text =
        "diff --git a/x b/x\n@@ -18446744073709551615,9 +18446744073709551615,9 @@\n a\n a\n";
    assert_eq!(whole(text).files[0].hunks[0].lines.len(), 2);
    let text = "diff --git a/x b/x\n@@ -99999999999999999999 +1 @@\n-a\n";
    assert!(whole(text).files[0].hunks.is_empty());
}

#[test]
fn copies_and_odd_headers_are_read() {
    let patch = whole(
        "diff --git a/old b/new\nsimilarity index 100\ncopy from old\ncopy to new\n\
         diff --git a/x b/x\nold mode 100648\nnew mode 10064\nindex 1..2\nGIT binary patch\n\
         diff --git a/x b/y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n",
    );
    let [copy, odd, renamed] = patch.files.as_slice() else { panic!("{patch:?}") };
    assert_eq!((copy.status, copy.path.as_str()), (FileStatus::Copied, "new"));
    assert_eq!((copy.old_path.as_deref(), copy.similarity), (Some("old"), Some(100)));
    assert_eq!((&odd.old_mode, &odd.new_mode, odd.binary), (&None, &None, true));
    assert_eq!((renamed.path.as_str(), renamed.old_path.as_deref()), ("y", None));
    assert!(!renamed.binary && !renamed.truncated);
}

#[test]
fn a_hunk_ends_with_the_lines_it_announced() {
    let patch = whole(
        "diff --git a/x b/x\n@@ -1,2 +1,2 @@ f\n\n a\n b\n+c\n-d\n\n@@ -9 +9 @@\n-y\n+z\n+w\n",
    );
    let [first, second] = patch.files[0].hunks.as_slice() else { panic!("{patch:?}") };
    let texts = |hunk: &Hunk| hunk.lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(first), ["", "a"], "an empty line is context too");
    assert_eq!((first.old_start, first.old_lines, first.section.as_str()), (1, 2, "f"));
    assert_eq!(texts(second), ["y", "z"]);
    assert_eq!((second.old_start, second.old_lines, second.new_lines), (9, 1, 1));
    assert_eq!((patch.files[0].insertions, patch.files[0].deletions), (1, 1));
}

#[test]
fn a_line_needs_room_on_each_side_it_is_on() {
    // Two lines of one kind behind a range that has room for both on one side only, or on neither.
    for (range, body) in [
        ("-1 +1", " a\n b\n"),
        ("-1,2 +1", " a\n b\n"),
        ("-1 +1,2", " a\n b\n"),
        ("-1,2 +1", "\n\n"),
        ("-1 +1,2", "\n\n"),
        ("-1,2 +1", "+a\n+b\n"),
        ("-1 +1,2", "-a\n-b\n"),
    ] {
        let patch = whole(&format!("diff --git a/x b/x\n@@ {range} @@\n{body}"));
        assert_eq!(patch.files[0].hunks[0].lines.len(), 1, "{range} {body:?}");
    }
}

#[test]
fn a_hunk_without_a_readable_range_is_passed_over() {
    for range in ["", "-1 +1", "-1+1 @@", "+1 -1 @@", "-1,x +1 @@", "-1 +1, @@"] {
        let patch = whole(&format!("diff --git a/x b/x\n@@ {range}\n-a\n+b\n"));
        assert!(patch.files[0].hunks.is_empty(), "{range:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..400)) {
        parse(&text, Extent::Whole);
    }

    #[test]
    fn pieces_of_patches_in_any_order_are_read(pieces in prop::collection::vec(prop::sample::select(vec![
        "diff --git ", "a/x b/x", "\"a/\\377\" \"b/\\377\"", "\n", "@@ -1,2 +3,4 @@", "@@ -0,0 +1 @@ f\n", "+", "-", " ",
        "\\ No newline", "--- a/", "+++ b/x\t", "rename from ", "rename to", "index 1..2 100644", "similarity index 300%",
        "old mode 1", "Binary files ", "\u{e9}", "diff --git \" \"", "@@ - + @@", "new file mode 100644\n",
    ]), 0..60)) {
        let text = pieces.concat();
        let patch = parse(text.as_bytes(), Extent::Cut);
        for file in &patch.files {
            let added = file.hunks.iter().flat_map(|hunk| &hunk.lines);
            let added = added.filter(|line| line.kind == LineKind::Added).count();
            prop_assert_eq!(file.insertions, added as u64);
        }
    }
}
