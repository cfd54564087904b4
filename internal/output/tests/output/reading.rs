//! Search, and recordings.

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::Value;
use shed_output::{Error, Exit, Hit, Limits, Log, Reader};

use crate::support::{SMALL, compress_all, log_dir, small};

/// All hits, asked for `step` at a time, with the rule that a search goes on.
fn hits(reader: &Reader, text: &str, step: usize) -> Vec<Hit> {
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let found = reader.search(text, from, step).unwrap();
        all.extend(found.hits);
        let Some(next) = found.next else {
            return all;
        };
        assert!(next > from);
        from = next;
    }
}

fn found(output: &[u8], text: &str) -> Vec<(u64, String)> {
    let dir = log_dir();
    let mut log = small(dir.path());
    log.begin_epoch(1, 0).unwrap();
    log.append(1, 0, 0, output).unwrap();
    hits(&log.reader(), text, 1).into_iter().map(|hit| (hit.offset, hit.line)).collect()
}

#[test]
fn text_is_found_as_printed() {
    for (output, text, expected) in [
        (&b"one\ntwo two\nthree\n"[..], "two", &[(4, "two two")][..]),
        (b"a\x1b[1mer\x1b[31mr\x1b[0mor b\r\n", "error", &[(5, "aerror b")]),
        (b"\x1b]0;secret\x07hello", "secret", &[]),
        (b"12%\r57%\r100%\n", "57", &[(4, "57%")]),
        (b"so\x1b[1Cfar\x1b[3;1Hfar away", "so far", &[(0, "so far")]),
        (b"tab\there", "tab here", &[(0, "tab here")]),
        ("na\u{ef}ve \u{1f980}\n".as_bytes(), "\u{1f980}", &[(7, "na\u{ef}ve \u{1f980}")]),
        (b"bad \xff\x9b\xc2\x9b byte", "bad", &[(0, "bad \u{fffd}\u{fffd}\u{fffd} byte")]),
        (b"one\ntwo\n", "one\ntwo", &[]),
    ] {
        let expected: Vec<_> =
            expected.iter().map(|(at, line)| (*at, (*line).to_owned())).collect();
        assert_eq!(found(output, text), expected, "{}", String::from_utf8_lossy(output));
    }
}

#[test]
fn text_of_full_screen_programs_is_found_once_and_with_its_blanks() {
    let lines = |output: &[u8], text: &str| -> Vec<String> {
        let dir = log_dir();
        let mut log = small(dir.path());
        log.begin_epoch(1, 0).unwrap();
        log.append(1, 0, 0, output).unwrap();
        hits(&log.reader(), text, 100).into_iter().map(|hit| hit.line).collect()
    };
    let drawn = b"\x1b[H\x1b[2J\x1b[3;1Hname:\x1b[3;9Hshed\x1b[4;1Hname:\x1b[20Gx";
    assert_eq!(lines(&drawn.repeat(5), "name:   shed"), ["name:   shed"]);
    assert_eq!(lines(&drawn.repeat(5), "name:"), ["name:   shed", "name:              x"]);
    // A part that is drawn over and over, as agents draw theirs.
    let part = b"\x1b[2K> thinking\r\n\x1b[2K\x1b[1A";
    assert_eq!(lines(&part.repeat(5), "thinking"), ["> thinking"]);
    // What is printed again on another line is another line.
    assert_eq!(lines(&b"error\r\n".repeat(3), "error"), ["error"; 3]);
}

#[test]
fn an_invalid_search_is_named() {
    let dir = log_dir();
    let reader = small(dir.path()).reader();
    for text in [String::new(), "x".repeat(1025)] {
        assert!(matches!(reader.search(&text, 0, 1), Err(Error::Needle { .. })));
    }
}

#[test]
fn every_line_is_found_across_chunks_and_compressed_ones() {
    let dir = log_dir();
    let mut log = small(dir.path());
    log.begin_epoch(1, 0).unwrap();
    let mut text = String::new();
    let mut expected = Vec::new();
    for n in 0..2000 {
        let mark = if n % 37 == 0 { "NEED\x1b[1mLE" } else { "" };
        if !mark.is_empty() {
            expected.push((text.len() as u64 + 5, format!("{n:04} NEEDLE")));
        }
        writeln!(text, "{n:04} {mark}").unwrap();
    }
    log.append(1, 0, 0, text.as_bytes()).unwrap();
    compress_all(&log);
    for step in [1, 7, 1000] {
        let all = hits(&log.reader(), "NEEDLE", step);
        let all: Vec<_> = all.into_iter().map(|hit| (hit.offset, hit.line)).collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn a_log_with_a_small_limit_stays_near_it() {
    let dir = log_dir();
    let total = 100 << 10;
    let mut log = Log::open(dir.path(), Limits::within(total)).unwrap();
    log.begin_epoch(1, 0).unwrap();
    let line = [b'x'; 99];
    while log.end() < 2 << 20 {
        log.append(1, log.epoch_end(1).unwrap(), 0, &line).unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap();
    let on_disk: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk <= total + (total >> 3) && on_disk > total / 2, "{on_disk} bytes");
    assert_eq!(Limits::within(u64::MAX).live_bytes, Limits::default().live_bytes);
}

#[test]
fn a_line_without_an_end_is_searched_in_parts() {
    let mut output = vec![b'x'; 20_000];
    for at in [4093, 9000, 19_997] {
        output[at..at + 3].copy_from_slice(b"abc");
    }
    let all = found(&output, "abc");
    assert_eq!(all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [4093, 9000, 19_997]);
    assert!(all.iter().all(|(_, line)| line.len() <= 4096));
}

#[test]
fn a_search_ends_though_a_sequence_does_not() {
    let dir = log_dir();
    let mut log = Log::open(dir.path(), Limits::default()).unwrap();
    log.begin_epoch(1, 0).unwrap();
    log.append(1, 0, 0, b"first\n\x1bP").unwrap();
    let piece = vec![b'q'; 1 << 20];
    while log.end() < 34 << 20 {
        log.append(1, log.epoch_end(1).unwrap(), 0, &piece).unwrap();
    }
    log.append(1, log.epoch_end(1).unwrap(), 0, b"\x1b\\last\n").unwrap();
    let reader = log.reader();
    let first = reader.search("last", 0, 10).unwrap();
    assert_eq!(first.hits, []);
    let rest = reader.search("last", first.next.expect("a call reads 32 MiB at most"), 10).unwrap();
    assert_eq!((rest.hits.len(), rest.next), (1, None));
}

/// A recording's lines after the header: time, kind, data.
fn events(reader: &Reader, from: u64, to: u64) -> (Value, Vec<(f64, String, String)>) {
    let mut out = Vec::new();
    reader.cast(from..to, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let events = lines.map(|it| (it[0].as_f64().unwrap(), word(&it[1]), word(&it[2])));
    (header, events.collect())
}

#[test]
fn a_recording_has_sizes_times_and_gaps() {
    let dir = log_dir();
    let mut log = small(dir.path());
    log.begin_epoch(1, 5_000).unwrap();
    log.resize(1, 5_000, 100, 30).unwrap();
    log.append(1, 0, 5_000, b"one \xc3").unwrap();
    log.append(1, 5, 5_020, b"\xbc ").unwrap();
    log.resize(1, 6_000, 80, 24).unwrap();
    log.append(1, 7, 6_500, "two \u{1f980}".as_bytes()).unwrap();
    // The clock was put back.
    log.append(1, 15, 2_000, b"three\xf0\x9f").unwrap();
    log.append(1, 30, 9_250, b"\x80four").unwrap();
    log.exit(1, 9_300, Exit::Code(7)).unwrap();
    log.begin_epoch(2, 9_400).unwrap();
    let (header, got) = events(&log.reader(), 0, u64::MAX);
    assert_eq!((&header["version"], &header["width"]), (&2.into(), &100.into()));
    assert_eq!((&header["height"], &header["timestamp"]), (&30.into(), &5.into()));
    let expected = [
        (0.0, "o", "one \u{fc} "),
        (1.0, "r", "80x24"),
        (1.5, "o", "two \u{1f980}"),
        (1.5, "o", "three"),
        (1.5, "o", "\u{fffd}"),
        (1.5, "m", "8 bytes missing"),
        (4.25, "o", "\u{fffd}four"),
        (4.3, "m", "exit 7"),
        (4.4, "m", "start 2"),
    ];
    let expected: Vec<_> =
        expected.map(|(at, kind, data)| (at, kind.to_owned(), data.to_owned())).to_vec();
    let mut joined: Vec<(f64, String, String)> = Vec::new();
    for event in got {
        match joined.last_mut() {
            Some(last) if event.1 == "o" && last.1 == "o" && last.2.starts_with("one") => {
                last.2 += &event.2;
            }
            _ => joined.push(event),
        }
    }
    assert_eq!(joined, expected);
    // A part of it begins with the size that it had there.
    let (header, part) = events(&log.reader(), 7, 11);
    assert_eq!(header["width"], 80);
    assert_eq!(part, [(0.0, "o".to_owned(), "two ".to_owned())]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_plays_what_was_printed(
        text in "(\\PC|[\\x00-\\x1f]){0,300}",
        cuts in prop::collection::vec(1..40_usize, 1..60),
        compress in any::<bool>(),
    ) {
        let dir = log_dir();
        let mut log = small(dir.path());
        log.begin_epoch(1, 0).unwrap();
        let mut rest = text.as_bytes();
        for (now, cut) in (0_u64..).zip(cuts.iter().cycle()) {
            if rest.is_empty() {
                break;
            }
            let (piece, others) = rest.split_at((*cut).min(rest.len()));
            log.append(1, log.epoch_end(1).unwrap(), now * 30, piece).unwrap();
            if now % 5 == 0 {
                log.resize(1, now * 30, 80 + u16::try_from(now).unwrap(), 24).unwrap();
            }
            rest = others;
        }
        if compress {
            compress_all(&log);
        }
        let (_, got) = events(&log.reader(), 0, u64::MAX);
        prop_assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        let played: String = got.iter().filter(|(_, kind, _)| kind == "o").map(|(_, _, it)| it.as_str()).collect();
        prop_assert_eq!(played, text);
    }

    #[test]
    fn search_finds_what_a_plain_look_finds(
        lines in prop::collection::vec("[ab ]{0,9}", 0..80),
        needle in "[ab]{1,3}",
        step in 1..9_usize,
    ) {
        let dir = log_dir();
        let mut log = Log::open(dir.path(), SMALL).unwrap();
        log.begin_epoch(1, 0).unwrap();
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        log.append(1, 0, 0, text.as_bytes()).unwrap();
        compress_all(&log);
        let mut expected = Vec::new();
        let mut start = 0;
        for line in &lines {
            expected.extend(line.find(&needle).map(|at| (start + at) as u64));
            start += line.len() + 1;
        }
        let got: Vec<u64> = hits(&log.reader(), &needle, step).iter().map(|hit| hit.offset).collect();
        prop_assert_eq!(got, expected);
    }
}
