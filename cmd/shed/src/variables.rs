//! Environment variables on the command line: `--env K=V`, or `--env K` with the value that it has here.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// The variables of all `--env` options; a later one replaces an earlier one of the same name.
pub(crate) fn from_options(options: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    options.iter().map(|option| from_option(option)).collect()
}

fn from_option(option: &str) -> Result<(String, String), Failure> {
    match option.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => match std::env::var(option) {
            Ok(value) => Ok((option.to_owned(), value)),
            Err(_) => Err(Failure::usage(format!("environment variable {option} is not set here"))
                .hint(format!("read -r {option} && export {option}"))),
        },
    }
}
