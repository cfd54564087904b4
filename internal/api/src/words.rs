//! Enums whose variants are single words, the same in JSON, in the database and in tables.

/// Declares an enum with a word for each variant, `as_str`, `ALL`, `Display` and `FromStr`. The string after the enum's
/// name is its kind in parse errors. The words are `tt`: utoipa does not see a `literal` of a macro, and would describe the
/// variants by their Rust names.
macro_rules! words {
    (
        $(#[$meta:meta])* $name:ident $kind:literal
        { $($(#[$doc:meta])* $variant:ident = $word:tt,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in JSON, in the database and in tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().copied().find(|known| known.as_str() == word);
                found.ok_or_else(|| $crate::words::invalid($kind, word, &[$($word,)*]))
            }
        }
    };
}

/// The error for a word that is not one of `expected`.
pub(crate) fn invalid(kind: &str, given: &str, expected: &[&str]) -> String {
    let list = match expected {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    };
    format!("invalid {kind} {given:?}; expected {list}")
}

#[cfg(test)]
mod tests {
    use crate::Scope;
    use crate::shed::Network;

    #[test]
    fn every_word_is_parsed_and_any_other_is_refused_with_the_list() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
        let scope = "root".parse::<Scope>().unwrap_err();
        assert_eq!(scope, "invalid scope \"root\"; expected read, drive or admin");
        let network = "".parse::<Network>().unwrap_err();
        assert_eq!(network, "invalid network \"\"; expected filtered, open or none");
    }
}
