//! Templates: what sessions can be made from, as TOML files of the server and of a repository. Reading them is pure; where
//! the server's are, its disk is asked here, and a shed is asked in `leftover`.

use shed_model::Rejection;
use std::path::Path;

use shed_api::SessionName;
use shed_api::name::printable;
use shed_api::work::{NamedTemplate, Template, TemplateList};

use crate::Error;
use crate::session::settings::SessionSettings;
use shed_model::session::template;

/// The most templates of one place. People choose among them.
pub(crate) const MAX_TEMPLATES: usize = 100;
/// The most bytes of a template: a prompt has at most 100 KiB, and one of a template is far shorter.
pub(crate) const MAX_TEMPLATE_BYTES: usize = 64 << 10;
/// Where a repository's templates are, under its top.
pub(crate) const IN_REPOSITORY: &str = ".shed/templates";
/// How the files' names end.
pub(crate) const SUFFIX: &str = ".toml";

/// Where a template is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Takes precedence over the server's of the same name.
    Repository,
    /// The server's directory.
    Server,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Server => "server",
        }
    }
}

/// A template's file: its name without the ending, and its text, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: Result<String, String>,
}

/// Reads and checks a template. An error about its text names line and column.
pub(crate) fn parse(settings: &SessionSettings, text: &str) -> Result<Template, Error> {
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(Error::Rejected(Rejection::TooLarge(too_large())));
    }
    let template: Template = shed_toml::parse(text)
        .map_err(|error| Error::Rejected(Rejection::Invalid(one_line(&error.to_string()))))?;
    template::check_template(&settings.rules(), &template)?;
    Ok(template)
}

/// A template's file as it is listed.
pub(crate) fn named(settings: &SessionSettings, source: Source, file: File) -> NamedTemplate {
    let is_name = file.name.parse::<SessionName>().map(drop).map_err(|error| error.to_string());
    let read = is_name
        .and(file.text)
        .and_then(|text| parse(settings, &text).map_err(|error| error.to_string()));
    let (template, error) = match read {
        Ok(template) => (Some(template), None),
        Err(error) => (None, Some(one_line(&error))),
    };
    let source = source.as_str().to_owned();
    NamedTemplate { name: printable(&file.name), source, directory: None, template, error }
}

/// Both places' templates, by name; of two of the same name the one that stands comes first.
pub(crate) fn list(repository: Vec<NamedTemplate>, server: Vec<NamedTemplate>) -> TemplateList {
    let mut templates: Vec<NamedTemplate> = repository.into_iter().chain(server).collect();
    // Stable: the repository's stay before the server's.
    templates.sort_by(|a, b| a.name.cmp(&b.name));
    TemplateList { templates }
}

/// The template of a name, or why there is none.
pub(crate) fn choose(list: &TemplateList, name: &str) -> Result<Template, Error> {
    let found = list.templates.iter().find(|template| template.name == name);
    let Some(found) = found else {
        let mut names: Vec<&str> = list.templates.iter().map(|it| it.name.as_str()).collect();
        names.dedup();
        let known = match names.as_slice() {
            [] => "none is available".to_owned(),
            names => format!("available: {}", names.join(", ")),
        };
        return Err(Error::Rejected(Rejection::NotFound(format!("template {name:?}; {known}"))));
    };
    match (&found.template, &found.error) {
        (Some(template), _) => Ok(template.clone()),
        (None, error) => {
            let why = error.as_deref().unwrap_or("it cannot be read");
            Err(Error::Rejected(Rejection::Invalid(format!(
                "template {name:?} of the {}: {why}",
                found.source
            ))))
        }
    }
}

/// The server's templates, by name. Blocks on the disk. A directory that is not there has none.
pub(crate) fn of_server(dir: &Path) -> Result<Vec<File>, Error> {
    let failed = || Error::io(format!("cannot read templates in {}", dir.display()));
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed())?,
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed())?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml") && path.is_file());
    paths.sort();
    paths.truncate(MAX_TEMPLATES);
    let name = |path: &Path| {
        path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    };
    Ok(paths.iter().map(|path| File { name: name(path), text: read(path) }).collect())
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = MAX_TEMPLATE_BYTES as u64 + 1;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_TEMPLATE_BYTES {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// What is said of one that is too large.
pub(crate) fn too_large() -> String {
    format!("the template is over {MAX_TEMPLATE_BYTES} bytes")
}

/// What another program says, on one line and without what steers a terminal.
fn one_line(text: &str) -> String {
    printable(&text.trim().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Template, String> {
        parse(&SessionSettings::default(), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_template_is_read_whole_or_not_at_all() {
        let text = "description = 'Reviews'\ntype = 'worktree'\nagent = 'claude'\n\
            prompt = 'Review {{prompt}}'\nsetup = ['make']\ntags = ['review']\n\
            [env]\nA = 'b'\n[limits]\nruntime_seconds = 60\n";
        let template = read(text).unwrap();
        assert_eq!(template.limits.runtime_seconds, Some(60));
        assert_eq!(template.env["A"], "b");
        assert_eq!(read("").unwrap(), Template::default());
        // An agent may come with the request.
        assert!(read("prompt = 'x'\nmodel = 'y'").is_ok());
        let cases = [
            (
                "agent = 'claude'\nagnet = 1\n",
                "line 2, column 1: unknown key `agnet`; did you mean `agent`?",
            ),
            ("a = \n", "line 1, column "),
            ("\n\ntype = 'both'", "line 3, column 8: "),
            ("[limits]\nminutes = 1", "line 2, column 1: unknown key `minutes`"),
            ("agent = 'nobody'", "invalid agent \"nobody\""),
            ("agent = 'claude'\ncommand = ['ls']", "not both"),
            ("tags = ['a,b']", "invalid tag"),
            ("title = \"a\\u001b\"", "control character"),
            ("base = 'main'", "need type worktree"),
            ("command = ['']", "invalid command"),
            ("[env]\n'A=B' = 'x'", "invalid environment variable name"),
        ];
        for (text, why) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error:?}");
            assert!(!error.contains('\n'), "{error:?}");
        }
        let large = format!("title = '{}'", "x".repeat(MAX_TEMPLATE_BYTES));
        assert!(read(&large).unwrap_err().contains("over"));
    }

    #[test]
    fn the_repositorys_stands_before_the_servers() {
        let settings = SessionSettings::default();
        let file =
            |name: &str, text: &str| File { name: name.to_owned(), text: Ok(text.to_owned()) };
        let of = |source, files: Vec<File>| -> Vec<NamedTemplate> {
            files.into_iter().map(|file| named(&settings, source, file)).collect()
        };
        let repository = of(
            Source::Repository,
            vec![file("a", "title = 'mine'"), file("x\x1b;#(id)", ""), file("bad", "?")],
        );
        let server = of(Source::Server, vec![file("a", "title = 'yours'"), file("bad", "")]);
        let all = list(repository, server);
        let seen: Vec<_> = all
            .templates
            .iter()
            .map(|it| (it.name.as_str(), it.source.as_str(), it.template.is_some()))
            .collect();
        let expected = [
            ("a", "repository", true),
            ("a", "server", true),
            ("bad", "repository", false),
            ("bad", "server", true),
            ("x\u{fffd};#(id)", "repository", false),
        ];
        assert_eq!(seen, expected);
        assert_eq!(choose(&all, "a").unwrap().title.as_deref(), Some("mine"));
        let broken = choose(&all, "bad").unwrap_err().to_string();
        assert!(broken.contains("of the repository: line 1"), "{broken}");
        let unknown = choose(&all, "b").unwrap_err();
        assert!(
            matches!(&unknown, Error::Rejected(Rejection::NotFound(text)) if text.contains("; available: a, bad"))
        );
        let none = choose(&TemplateList { templates: Vec::new() }, "b").unwrap_err();
        assert!(none.to_string().contains("none is available"), "{none}");
    }
}
