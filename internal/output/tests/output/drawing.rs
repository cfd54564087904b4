//! The screen: whatever is fed, and sent to another screen.

use proptest::prelude::*;
use shed_output::{MAX_COLS, MAX_ROWS, RESET, Screen, Size, replay};

use crate::support::small;

/// Bytes as programs print them, and as they do not.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z ]{1,12}".prop_map(String::into_bytes),
        2 => prop_oneof![Just("\r\n"), Just("\n"), Just("\r"), Just("\t"), Just("\x08")]
            .prop_map(|text| text.as_bytes().to_vec()),
        2 => "[\u{e4}\u{4e2d}\u{1f980}\u{301}\u{200d}\u{fe0f}]{1,3}".prop_map(String::into_bytes),
        6 => ("(\\?|>| )?", prop::collection::vec(0..40_u16, 0..3), "[@A-HJ-MPSTXZ`abdfghlmnqrtsu]")
            .prop_map(|(prefix, params, last)| {
                let params: Vec<String> = params.iter().map(u16::to_string).collect();
                format!("\x1b[{prefix}{}{last}", params.join(";")).into_bytes()
            }),
        2 => prop_oneof![
            Just("\x1b[?1049h"), Just("\x1b[?1049l"), Just("\x1b[?47h"), Just("\x1b[?47l"), Just("\x1b[?2004h"),
            Just("\x1b[?1002h\x1b[?1006h"), Just("\x1b[?1h\x1b="), Just("\x1b[?25l"), Just("\x1b[5 q"),
            Just("\x1b7"), Just("\x1b8"), Just("\x1bM"), Just("\x1bD"), Just("\x1bc"), Just("\x1b[?6h"),
            Just("\x1b[38;2;1;2;3m"), Just("\x1b[48;5;200m"), Just("\x1b[2;5r"), Just("\x1b[r"),
            Just("\x1b[65535;65535H"), Just("\x1b[65535S"), Just("\x1b[65535L"), Just("\x1b[65535b"),
        ].prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..9),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// What a viewer can tell of a screen.
fn seen(screen: &Screen) -> (Size, Vec<String>, (u16, u16), bool) {
    (screen.size(), screen.rows_ansi(), screen.cursor(), screen.is_alternate())
}

fn copy_of(screen: &Screen) -> Screen {
    let Size { cols, rows } = screen.size();
    let mut copy = Screen::new(cols, rows);
    copy.feed(&screen.snapshot());
    copy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_and_no_size_break_it(
        parts in prop::collection::vec((output(), any::<u16>(), any::<u16>(), 0..4_u8), 1..6),
    ) {
        let mut screen = Screen::new(80, 24);
        for (bytes, cols, rows, how) in parts {
            screen.feed(&bytes);
            match how {
                0 => screen.resize(cols, rows),
                1 => screen.resize(cols % 5, rows % 5),
                2 => screen.resize(cols % 200, rows % 60),
                _ => {}
            }
            let Size { cols, rows } = screen.size();
            prop_assert!((2..=MAX_COLS).contains(&cols) && (1..=MAX_ROWS).contains(&rows));
            prop_assert_eq!(screen.rows_text().len(), usize::from(rows));
            prop_assert_eq!(screen.rows_ansi().len(), usize::from(rows));
            screen.snapshot();
        }
        prop_assert_eq!(screen.n_faults(), 0, "the terminal model failed");
    }
}

#[test]
fn a_snapshot_sets_the_modes_of_focus_and_keys() {
    let mut screen = Screen::new(20, 4);
    screen.feed(b"\x1b[>1u$ \x1b[?1004h\x1b[?1049h\x1b[>");
    screen.feed(b"5umenu");
    let snapshot = String::from_utf8(screen.snapshot()).unwrap();
    let at = |text: &str| snapshot.find(text).unwrap_or_else(|| panic!("{text:?} {snapshot:?}"));
    // Each screen has keyboard modes of its own.
    assert!(at("\x1b[>1u") < at("\x1b[?1049h") && at("\x1b[?1049h") < at("\x1b[>5u"));
    at("\x1b[?1004h");
    screen.feed(b"\x1b[<u\x1b[?1049l\x1b[<u\x1b[?1004l");
    let snapshot = String::from_utf8(screen.snapshot()).unwrap();
    assert!(!snapshot.contains("1004") && !snapshot.contains("\x1b[>"), "{snapshot:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_draws_the_same_screen(bytes in output(), cols in 2..40_u16, rows in 2..12_u16) {
        let mut screen = Screen::new(cols, rows);
        screen.feed(&bytes);
        let mut copy = copy_of(&screen);
        // Blanks at the end of a row are not drawn. What asks for a wide form, and does not get it, may be left out there.
        let told = |screen: &Screen| {
            let (size, rows, cursor, alternate) = seen(screen);
            let rows = rows.iter().map(|row| row.replace('\u{fe0f}', "").trim_end().to_owned());
            (size, rows.collect::<Vec<_>>(), cursor, alternate)
        };
        prop_assert_eq!(told(&copy), told(&screen));
        // What a full-screen program hides is there too.
        for it in [&mut screen, &mut copy] {
            it.feed(b"\x18\x1b[?47l");
        }
        prop_assert_eq!(told(&copy).1, told(&screen).1);
    }

    #[test]
    fn bytes_may_be_cut_anywhere(bytes in output(), cut in any::<prop::sample::Index>()) {
        let mut whole = Screen::new(20, 6);
        whole.feed(&bytes);
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut cut = Screen::new(20, 6);
        cut.feed(first);
        cut.feed(second);
        prop_assert_eq!(seen(&cut), seen(&whole));
        prop_assert_eq!(cut.snapshot(), whole.snapshot());
    }

    #[test]
    fn rows_hold_colours_and_nothing_else(bytes in output()) {
        let mut screen = Screen::new(30, 8);
        screen.feed(&bytes);
        for (ansi, text) in screen.rows_ansi().iter().zip(screen.rows_text()) {
            let mut plain = String::new();
            let mut rest = ansi.as_str();
            while let Some(at) = rest.find('\x1b') {
                plain += &rest[..at];
                let end = at + rest[at..].find('m').expect("only SGR");
                prop_assert!(rest[at + 2..end].bytes().all(|it| it.is_ascii_digit() || it == b';'));
                rest = &rest[end + 1..];
            }
            plain += rest;
            prop_assert!(!plain.chars().any(char::is_control));
            prop_assert_eq!(plain.trim_end(), text);
        }
    }
}

#[test]
fn a_copy_in_the_middle_of_an_escape_sequence_sees_its_end() {
    for cut in ["a\x1b[3", "\x1b]0;ti", "a\u{1f980}", "\x1b[38;2;"] {
        let rest = "1mb\x07c";
        let mut screen = Screen::new(20, 3);
        let bytes = cut.as_bytes();
        let bytes = if cut.ends_with('\u{1f980}') { &bytes[..bytes.len() - 2] } else { bytes };
        screen.feed(bytes);
        let mut copy = copy_of(&screen);
        let rest = [&cut.as_bytes()[bytes.len()..], rest.as_bytes()].concat();
        copy.feed(&rest);
        screen.feed(&rest);
        assert_eq!(seen(&copy), seen(&screen), "{cut:?}");
    }
}

#[test]
fn overwriting_half_of_a_wide_character_changes_nothing_else() {
    for text in ["\u{fc}a\u{4e2d}", "\u{e9} \u{2192} x", "\u{80}\x1b[31mx"] {
        for cut in 0..text.len() {
            let mut whole = Screen::new(20, 2);
            whole.feed(text.as_bytes());
            let mut parts = Screen::new(20, 2);
            parts.feed(&text.as_bytes()[..cut]);
            parts.feed(&text.as_bytes()[cut..]);
            assert_eq!(seen(&parts), seen(&whole), "{text:?} {cut}");
        }
    }
}

#[test]
fn a_cursor_behind_the_last_column_keeps_the_colours_there() {
    let mut screen = Screen::new(2, 3);
    screen.feed("\x1b[2;5r\x1b[9;9H\u{e4}\x1b[?1049h\x1b[38;2;1;2;3m".as_bytes());
    let mut copy = copy_of(&screen);
    for it in [&mut screen, &mut copy] {
        it.feed(b"\x1b[?47l");
    }
    assert_eq!(seen(&copy), seen(&screen));
}

#[test]
fn a_cursor_below_the_rows_that_scroll_stays_there() {
    let mut screen = Screen::new(7, 6);
    screen.feed(b"\x1b[2;5r  aa  aaa   a \x1b[6d");
    assert_eq!(seen(&copy_of(&screen)), seen(&screen));
}

#[test]
fn a_copy_scrolls_the_same_rows() {
    let mut screen = Screen::new(20, 6);
    screen.feed(b"top\r\n1\r\n2\r\n3\r\n4\r\nbottom\x1b[2;5r\x1b[5;1H");
    let mut copy = copy_of(&screen);
    for it in [&mut screen, &mut copy] {
        it.feed(b"\n5");
    }
    assert_eq!(seen(&copy), seen(&screen));
    assert_eq!(copy.rows_text(), ["top", "2", "3", "4", "5", "bottom"]);
}

#[test]
fn a_reset_makes_a_used_terminal_fresh() {
    let mut used = Screen::new(20, 4);
    used.feed(b"\x1b[?1049h\x1b[1;31mred\x1b[2;3r\x1b[?2004h");
    let mut other = Screen::new(20, 4);
    other.feed(b"plain");
    used.feed(&[RESET, &other.snapshot()].concat());
    assert_eq!(seen(&used), seen(&other));
    assert_eq!(used.snapshot(), other.snapshot());
}

#[test]
fn colours_are_drawn_and_trailing_blanks_are_not() {
    let mut screen = Screen::new(40, 3);
    screen
        .feed(b"\x1b[1;31mred\x1b[0m x   \r\n\x1b[44m  \x1b[0m\r\n\x1b[38;5;9ma\x1b[38;2;1;2;3mb");
    assert_eq!(
        screen.rows_ansi(),
        [
            "\x1b[0;1;31mred \x1b[0mx",
            "\x1b[0;44m  \x1b[0m",
            "\x1b[0;91ma\x1b[0;38;2;1;2;3mb\x1b[0m"
        ]
    );
    assert_eq!(screen.rows_text(), ["red x", "", "ab"]);
}

#[test]
fn a_widened_character_at_the_end_of_a_row_breaks_nothing() {
    let mut screen = Screen::new(8, 4);
    screen.feed("\x1b[9;1H1234567".as_bytes());
    screen.feed("8\u{fe0f}\r\x1b[7Cx".as_bytes());
    screen.feed("\r\n1\u{fe0f}2".as_bytes());
    assert_eq!(screen.n_faults(), 0);
    assert_eq!(screen.rows_text(), ["", "", "1234567x", "1\u{fe0f}2"]);
    // Pushed there, it is still seen by a viewer who comes late.
    for character in ["\u{1f980}\u{fe0f}", "1\u{fe0f}"] {
        let mut screen = Screen::new(8, 4);
        screen.feed(format!("{character}\r\x1b[6@").as_bytes());
        assert_eq!(screen.rows_text()[0], format!("      {character}"));
        assert_eq!(copy_of(&screen).rows_text(), screen.rows_text());
    }
}

/// A few bytes that make much work, again and again; not measured in time, but by what is left out.
#[test]
fn a_flood_of_clears_does_not_keep_the_screen_empty() {
    for flood in ["\x1bcx", "\x1b[2Jx", "x\x1b[65535S"] {
        let mut screen = Screen::new(MAX_COLS, MAX_ROWS);
        screen.feed(flood.repeat(20_000).as_bytes());
        let mut most = 0;
        for _ in 0..100 {
            screen.feed(flood.as_bytes());
            let shown = screen.rows_text();
            most = most.max(shown.iter().map(|row| row.trim().len()).sum());
        }
        assert!(most > 1, "{flood:?}");
        screen.feed(b"y".repeat(1 << 20).as_slice());
        screen.feed(b"\x1b[2J\x1b[Hdone");
        assert_eq!(screen.rows_text()[0], "done", "{flood:?}");
    }
    let mut screen = Screen::new(20, 4);
    screen.feed(b"x\x1b[65535b");
    assert_eq!(screen.rows_text(), ["x".repeat(20), "x".to_owned(), String::new(), String::new()]);
    // A full-screen program that draws what it clears is obeyed each time.
    for n in 0..10_000 {
        screen.feed(format!("\x1b[H\x1b[2J{n} of some").as_bytes());
        assert_eq!(screen.rows_text()[0], format!("{n} of some"));
    }
}

#[test]
fn an_endless_control_string_takes_no_memory() {
    let mut screen = Screen::new(10, 2);
    screen.feed(b"ok\x1b]0;");
    for _ in 0..64 {
        screen.feed(&vec![b'x'; 64 << 10]);
    }
    assert!(screen.snapshot().len() < 1000);
    screen.feed(b"\x07!");
    assert_eq!(screen.rows_text(), ["ok!", ""]);
}

#[test]
fn a_replay_draws_the_end_of_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = small(dir.path());
    log.begin_epoch(1, 0).unwrap();
    log.resize(1, 0, 20, 4).unwrap();
    log.append(1, 0, 0, b"old run\r\n").unwrap();
    log.begin_epoch(2, 0).unwrap();
    let mut text = Vec::new();
    for n in 0..100 {
        text.extend(format!("\x1b[3{}m\u{e4}{n}\x1b[0m\r\n", n % 8).bytes());
    }
    log.append(2, 0, 100, &text).unwrap();
    log.resize(2, 200, 30, 5).unwrap();
    log.append(2, log.epoch_end(2).unwrap(), 200, b"last \x1b[1").unwrap();
    crate::support::compress_all(&log);
    let reader = log.reader();
    let whole = replay(&reader, 80, 24, u64::MAX).unwrap();
    assert_eq!(whole.size(), Size { cols: 30, rows: 5 });
    assert_eq!(whole.rows_text(), ["\u{e4}96", "\u{e4}97", "\u{e4}98", "\u{e4}99", "last"]);
    // Wherever a part begins, nothing of a cut sequence or character is drawn.
    for n_bytes in 0..150 {
        let part = replay(&reader, 80, 24, n_bytes).unwrap();
        for row in part.rows_text() {
            let lone = row.strip_prefix('\u{e4}').unwrap_or(&row);
            let is_number = lone.bytes().all(|it| it.is_ascii_digit());
            assert!(is_number || "last".ends_with(&row), "{n_bytes}: {row:?}");
        }
    }
    let empty = tempfile::tempdir().unwrap();
    let fresh = replay(&small(empty.path()).reader(), 50, 10, 1000).unwrap();
    assert_eq!(fresh.size(), Size { cols: 50, rows: 10 });
}
