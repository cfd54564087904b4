//! Names of signals on the wire (RFC 4254, section 6.10). Pure.

use russh::Sig;

/// The name of a client's signal, without `SIG`.
pub(crate) fn name(signal: &Sig) -> &str {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
}

/// The signal to send for a name without `SIG`. A name that is not in the RFC gets a suffix with an `@`.
pub(crate) fn to_wire(name: &str) -> Sig {
    const KNOWN: &[&str] = &[
        "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1",
        "USR2",
    ];
    let name = if KNOWN.contains(&name) { name.to_owned() } else { format!("{name}@shed") };
    Sig::Custom(name)
}
