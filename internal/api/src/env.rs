//! Files of environment variables, as `--env-file` and a server's `env_file` read them.

/// Parses lines `NAME=VALUE`. Empty lines and comments are skipped; `export ` and quotes around a value are removed. The
/// error is the number of the first line of another form, counted from 1: one without `=`, or with a quote that does not end on
/// the line, as in a value of several lines.
pub fn read_env(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut pairs = Vec::new();
    for (line, number) in text.lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').ok_or(number)?;
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].strip_suffix(quote).ok_or(number)?,
            _ => value,
        };
        pairs.push((key.trim().to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_parsed() {
        let text = "# comment\n\nA=1\nexport B=\"two words\"\nC='x'\nD=a=b\n";
        let pairs = read_env(text).unwrap();
        let pairs: Vec<_> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "two words"), ("C", "x"), ("D", "a=b")]);
        assert_eq!(read_env("A=1\nnonsense\n"), Err(2));
        // A value of several lines is not split.
        for text in ["A=1\nKEY=\"-----BEGIN\nB=2\nEND\"\n", "A=1\nKEY='x\nB=2'\n", "A=1\nB=\"\n"] {
            assert_eq!(read_env(text), Err(2), "{text}");
        }
    }
}
