//! What people who use plain SSH are told when something does not work: the hints of problems are commands of the client `shed`,
//! which they may not have. Pure.

use shed_api::{Code, Problem, Shed};
use shed_core::{Error, Failure};

/// How many sheds a hint names.
const MAX_NAMED: usize = 10;
/// How the hint of a problem begins if it is a command of the client.
const CLIENT: &str = "shed ";

/// The hint of a problem for a person with any SSH client, who may use these sheds.
pub(crate) fn hint(problem: &Problem, sheds: &[Shed]) -> Option<String> {
    if problem.code == Code::ShedNotFound {
        let names: Vec<&str> =
            sheds.iter().take(MAX_NAMED).map(|shed| shed.name.as_str()).collect();
        let more = if sheds.len() > MAX_NAMED { ", …" } else { "" };
        return Some(match names.as_slice() {
            [] => "there is no shed that this key may use".to_owned(),
            names => format!("log in as one of: {}{more}", names.join(", ")),
        });
    }
    let hint = problem.hint.as_deref()?;
    let is_of_client = hint.starts_with(CLIENT);
    Some(if is_of_client { format!("with the client of shed: {hint}") } else { hint.to_owned() })
}

/// Whether a command line is the one by which ssh-copy-id adds a key. It would seem to work, and open nothing.
pub(crate) fn is_copy_id(line: &[u8]) -> bool {
    let has = |text: &str| line.windows(text.len()).any(|part| part == text.as_bytes());
    let starts_as = [&b"exec sh -c 'cd"[..], b"exec sh -c 'umask", b"umask 077"];
    starts_as.iter().any(|start| line.starts_with(start))
        && (has("cat >> .ssh/authorized_keys") || has("cat >> \".ssh/authorized_keys\""))
}

/// Why ssh-copy-id is refused.
pub(crate) fn no_copy_id() -> Error {
    let text =
        "ssh-copy-id cannot add a key: the server authorizes keys, a file in a shed does not";
    let hint = "on the server: shed-server key add NAME KEY.pub";
    Error::Failed(Failure::new(Code::InvalidRequest, text).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_of_the_client_say_what_they_are_for() {
        let problem = |hint: &str| Problem::new(Code::NotRunning, "x").hint(hint);
        let of_client = hint(&problem("shed unpause web"), &[]);
        assert_eq!(of_client.as_deref(), Some("with the client of shed: shed unpause web"));
        let of_server = hint(&problem("on the server: df -h"), &[]);
        assert_eq!(of_server.as_deref(), Some("on the server: df -h"));
        assert_eq!(hint(&Problem::new(Code::Busy, "x"), &[]), None);
    }

    #[test]
    fn the_command_of_ssh_copy_id_is_recognized_and_others_are_not() {
        for line in [
            // Of OpenSSH 9.2, 6.2 and 6.0.
            "exec sh -c 'cd; umask 077; mkdir -p \".ssh\" && { [ -z `tail -1c .ssh/authorized_keys 2>/dev/null` ] || \
             echo >> \".ssh/authorized_keys\" || exit 1; } && cat >> \".ssh/authorized_keys\" || exit 1; '",
            "exec sh -c 'cd ; umask 077 ; mkdir -p .ssh && cat >> .ssh/authorized_keys || exit 1'",
            "umask 077 ; test -d ~/.ssh || mkdir ~/.ssh ; cat >> .ssh/authorized_keys",
        ] {
            assert!(is_copy_id(line.as_bytes()), "{line}");
        }
        for line in ["cat >> .ssh/authorized_keys", "exec sh -c 'cat .ssh/authorized_keys'", ""] {
            assert!(!is_copy_id(line.as_bytes()), "{line}");
        }
    }
}
