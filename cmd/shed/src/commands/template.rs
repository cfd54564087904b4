//! `shed template`.

use std::path::{Path, PathBuf};

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::work::NamedTemplate;

use super::each::each;
use crate::candidates::sheds;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use shed_report::table;

/// Longest file to send; the limit of the server is lower.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// List, show and check templates for sessions
///
/// Templates are TOML files of the server or in .shed/templates of the repository. To use one: `shed run NAME --template
/// TEMPLATE`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed template list web
  shed template show web review
  shed template check .shed/templates/review.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the templates available in a shed
    #[command(alias = "ls")]
    List {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
    },
    /// Show the values of a template
    Show {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Template
        template: String,
    },
    /// Check local template files; exit with status 2 if one is invalid
    Check {
        /// Files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    match args.command {
        Command::List { name } => {
            let list = context.client()?.templates(&name).await?;
            context.out.data(&list, || rows(&list.templates))?;
            Ok(0)
        }
        Command::Show { name, template } => {
            let list = context.client()?.templates(&name).await?.templates;
            let found = list.into_iter().find(|row| row.name == template).ok_or_else(|| {
                Failure::not_found(format!("template {template:?} does not exist in shed {name}"))
                    .hint(format!("shed template list {name}"))
            })?;
            if let Some(error) = &found.error {
                return Err(Failure::new(format!("template {template:?}: {}", printable(error))));
            }
            let text = shed_toml::write(&found.template.clone().unwrap_or_default());
            let text = text.map_err(|error| Failure::new(error.to_string()))?;
            context.out.data(&found, || text)?;
            Ok(0)
        }
        Command::Check { files } => {
            let client = context.client()?;
            let check = async |file: &str| {
                let checked = client.check_template(read(Path::new(file))?).await;
                let template = checked.map_err(|error| {
                    let failure = Failure::from(error);
                    Failure { text: format!("{file}: {}", failure.text), ..failure }
                })?;
                context.out.data(&template, || format!("{file} is a valid template\n"))
            };
            let files: Vec<String> =
                files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
            Ok(each(&files, context, check).await)
        }
    }
}

/// Reads a template file.
fn read(file: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let shown = file.display();
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    read.map_err(Failure::io(&shown))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::new(format!(
            "template {shown} is too long; the limit is {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

fn rows(templates: &[NamedTemplate]) -> String {
    let rows = templates.iter().map(|row| {
        let description = match (&row.error, &row.template) {
            (Some(error), _) => format!("invalid: {error}"),
            (None, Some(template)) => template.description.clone().unwrap_or_default(),
            (None, None) => String::new(),
        };
        let source = match &row.directory {
            Some(directory) => format!("{} {}", row.source, printable(directory)),
            None => row.source.clone(),
        };
        vec![printable(&row.name), source, printable(&description)]
    });
    table(&["TEMPLATE", "SOURCE", "DESCRIPTION"], rows.collect())
}
