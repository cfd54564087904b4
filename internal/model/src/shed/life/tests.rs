//! The whole domain of the rules, as tables.

use super::*;

/// A verdict in two letters: what is done (`B`egin, `J`oin, `Q`ueue, `I`nterrupt) and the operation, `D` and the denial, or
/// `=` when it is so already.
fn code(verdict: Verdict) -> String {
    let op = |op: Operation| match op {
        Operation::Create => 'c',
        Operation::Start => 's',
        Operation::Stop => 't',
        Operation::Restart => 'r',
        Operation::Pause => 'p',
        Operation::Unpause => 'u',
        Operation::Rebuild => 'b',
        Operation::Remove => 'x',
    };
    match verdict {
        Verdict::Begin(it) => format!("B{}", op(it)),
        Verdict::Join(it) => format!("J{}", op(it)),
        Verdict::Queue(it) => format!("Q{}", op(it)),
        Verdict::Interrupt(it) => format!("I{}", op(it)),
        Verdict::Already => "=".to_owned(),
        Verdict::Deny(denial) => format!(
            "D{}",
            match denial {
                Denial::Removing => 'x',
                Denial::Paused => 'p',
                Denial::NotRunning => 'r',
                Denial::NotFailed => 'f',
                Denial::NeverCreated => 'n',
                Denial::NotCloned => 'c',
                Denial::TooManyWaiting => 'm',
            }
        ),
    }
}

fn row(facts: Facts, ahead: Ahead<Operation>) -> String {
    let codes = Request::ALL.map(|request| code(Rules::decide(facts, ahead, request)));
    codes.join(" ")
}

fn facts(status: ShedStatus) -> Facts {
    Facts { status, has_container: true, is_cloned: true }
}

#[test]
fn what_each_request_leads_to_in_each_status() {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    // In the order of `Request::ALL`: create, start, stop, restart, pause, unpause, rebuild, delete.
    let whole = [
        (Creating, "Bc Bs Bt Br Dr Dr Bb Bx"),
        (Starting, "Df Bs Bt Br Dr Dr Bb Bx"),
        (Running, "Df = Bt Br Bp = Bb Bx"),
        (Paused, "Df Dp Bt Br = Bu Bb Bx"),
        (Stopping, "Df Bs Bt Br Dr Dr Bb Bx"),
        (Stopped, "Df Bs = Br Dr Dr Bb Bx"),
        (Failed, "Bc Bs Bt Br Dr Dr Bb Bx"),
        (Removing, "Dx Dx Dx Dx Dx Dx Dx Bx"),
    ];
    assert_eq!(whole.len(), ShedStatus::ALL.len());
    let without_container = "Bc Dn Bt Dn Dr Dr Dn Bx";
    let without_clone = "Bc Dc Bt Dc Dr Dr Dc Bx";
    for (status, expected) in whole {
        let now = |has_container, is_cloned| {
            row(Facts { has_container, is_cloned, ..facts(status) }, Ahead::NOTHING)
        };
        assert_eq!(now(true, true), expected, "{status}");
        let boxless =
            if matches!(status, Creating | Failed) { without_container } else { expected };
        assert_eq!(now(false, true), boxless, "{status} without a container");
        assert_eq!(now(false, false), boxless, "{status} without a container and a clone");
        let bare = if status == Failed { without_clone } else { expected };
        assert_eq!(now(true, false), bare, "{status} without a clone");
    }
}

#[test]
fn what_each_request_leads_to_behind_each_operation() {
    // In the order of `Request::ALL`: create, start, stop, restart, pause, unpause, rebuild, delete.
    let behind = [
        (Operation::Create, "Df Jc Qt Qr Qp Jc Qb Ix"),
        (Operation::Start, "Df Js Qt Qr Qp Js Qb Ix"),
        (Operation::Stop, "Df Qs Jt Qr Dr Dr Qb Ix"),
        (Operation::Restart, "Df Jr Qt Jr Qp Jr Qb Ix"),
        (Operation::Pause, "Df Dp Qt Qr Jp Qu Qb Ix"),
        (Operation::Unpause, "Df Ju Qt Qr Qp Ju Qb Ix"),
        (Operation::Rebuild, "Df Jb Qt Qr Qp Jb Jb Ix"),
        (Operation::Remove, "Dx Dx Dx Dx Dx Dx Dx Jx"),
    ];
    for (last, expected) in behind {
        for status in ShedStatus::ALL.iter().filter(|status| **status != ShedStatus::Stopped) {
            for running in behind.map(|(op, _)| op) {
                let ahead = Ahead { running: Some(running), last: Some(last) };
                for (has_container, is_cloned) in [(true, true), (false, false)] {
                    // What is missing now is there when the last operation is done.
                    let now = Facts { status: *status, has_container, is_cloned };
                    assert_eq!(row(now, ahead), expected, "{last:?} in {status}");
                }
            }
        }
        // A rebuild leaves a stopped shed stopped.
        let stopped = match last {
            Operation::Rebuild => "Df Qs Jb Qr Dr Dr Jb Ix",
            _ => expected,
        };
        let ahead = Ahead { running: Some(last), last: Some(last) };
        assert_eq!(row(facts(ShedStatus::Stopped), ahead), stopped, "{last:?} while stopped");
    }
}

#[test]
fn an_operation_that_waited_begins_as_it_was_promised() {
    assert_eq!(Rules::turn(facts(ShedStatus::Failed), Operation::Pause), None);
}

#[test]
fn repair_of_every_difference() {
    use ShedStatus::{Creating, Failed, Paused, Removing, Running, Starting, Stopped, Stopping};
    // For each status what is done when the engine has no container, a running, a paused and an ended one: with the shed
    // wanted to run, on a return and on a change, and unwanted, on a return and on a change.
    let table = [
        (Creating, ["CCCC", "CCCC", "CCCC", "CCCC"]),
        (Starting, ["Ssss", "SSSS", "pppp", "Ssss"]),
        (Running, ["Ssss", "----", "pppp", "Ssss"]),
        (Paused, ["Ssss", "SSSS", "----", "Ssss"]),
        // An interrupted stop is finished whatever its container does; so is the restart or rebuild of a running shed.
        (Stopping, ["SsTT", "ZZTT", "ZZTT", "SsTT"]),
        (Stopped, ["S---", "SSSS", "pppp", "S---"]),
        (Failed, ["----", "----", "----", "----"]),
        (Removing, ["RRRR", "RRRR", "RRRR", "RRRR"]),
    ];
    assert_eq!(table.len(), ShedStatus::ALL.len());
    for (status, expected) in table {
        let seen = [Seen::Nothing, Seen::Running, Seen::Paused, Seen::Ended];
        let found = seen.map(|seen| {
            let situations = [
                (true, Occasion::Return),
                (true, Occasion::Change),
                (false, Occasion::Return),
                (false, Occasion::Change),
            ];
            let letters =
                situations.map(|(wanted, occasion)| match repair(status, wanted, occasion, seen) {
                    Repair::Nothing => '-',
                    Repair::Begin(Operation::Create) => 'C',
                    Repair::Begin(Operation::Start) => 'S',
                    Repair::Begin(Operation::Stop) => 'T',
                    Repair::Begin(Operation::Restart) => 'Z',
                    Repair::Begin(Operation::Remove) => 'R',
                    Repair::Set(Stopped) => 's',
                    Repair::Set(Paused) => 'p',
                    other => panic!("{status} {wanted} {occasion:?} {seen:?}: {other:?}"),
                });
            letters.iter().collect::<String>()
        });
        assert_eq!(found, expected, "{status}");
    }
}
