//! The environment of a process that is being put together: a list of variables in which each name occurs once.
//!
//! Names and values are UTF-8, because they travel as JSON. A variable of our own environment that is not UTF-8 is left
//! out.

/// Names and values.
pub(crate) type Environment = Vec<(String, String)>;

/// The environment of this process. For the daemon it is what the container engine set.
pub(crate) fn inherited() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Sets a variable; it replaces one of the same name.
pub(crate) fn set(environment: &mut Environment, name: String, value: String) {
    environment.retain(|(known, _)| *known != name);
    environment.push((name, value));
}

/// Sets several variables in their order.
pub(crate) fn extend(
    environment: &mut Environment,
    variables: impl IntoIterator<Item = (String, String)>,
) {
    for (name, value) in variables {
        set(environment, name, value);
    }
}

/// The value of a variable.
pub(crate) fn get<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut environment = vec![pair("A", "1"), pair("B", "2")];
        extend(&mut environment, [pair("A", "3"), pair("C", "4"), pair("C", "5")]);
        assert_eq!(environment, [pair("B", "2"), pair("A", "3"), pair("C", "5")]);
        assert_eq!(get(&environment, "A"), Some("3"));
        assert_eq!(get(&environment, "D"), None);
    }
}
