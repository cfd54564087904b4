//! `shed sessions`: the list.

use serde::Serialize;
use shed_api::Code;
use shed_api::name::printable;
use shed_api::session::{Session, SessionList, SessionStatus, Warning};
use shed_client::Client;

use super::ListArgs;
use crate::clock::{ago, span_ms};
use crate::commands::workers;
use crate::context::{Context, Named};
use crate::failure::{Failure, Outcome};
use shed_report::table;

/// A session and its server.
#[derive(Debug, Serialize)]
struct Row {
    server: String,
    #[serde(flatten)]
    session: Session,
}

/// A warning about a shed, or about a server that does not answer.
#[derive(Debug, Serialize)]
struct ServerWarning {
    server: String,
    /// Absent when the server does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    shed: Option<String>,
    /// What the column STATUS shows.
    #[serde(skip)]
    code: Option<Code>,
    reason: String,
    /// Age of the last known state, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct List {
    sessions: Vec<Row>,
    warnings: Vec<ServerWarning>,
}

/// Prints the list once, of one server or of all.
pub(super) async fn list(args: &ListArgs, context: &Context) -> Outcome {
    let servers = if args.all { context.all_servers()? } else { vec![context.server()?] };
    let name = args.name.clone();
    let answers =
        Context::ask_all(&servers, async |client| ask(&client, name.as_deref()).await).await;
    let mut list = List { sessions: Vec::new(), warnings: Vec::new() };
    let mut missing = false;
    for (server, answer) in servers.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                missing |= answer
                    .warnings
                    .iter()
                    .any(|warning| warning.code == shed_api::Code::ShedUnreachable);
                list.add(server, answer);
            }
            Err(failure) if !args.all => return Err(failure),
            Err(failure) => {
                missing = true;
                let (server, reason) = (server.name.clone(), failure.text);
                let unanswered =
                    ServerWarning { server, shed: None, code: None, reason, age_ms: None };
                list.warnings.push(unanswered);
            }
        }
    }
    context.out.data(&list, || list.text(args))?;
    if list.sessions.is_empty() && list.warnings.is_empty() && !context.out.is_json() {
        context.out.say("no sessions; try: shed attach NAME");
    }
    Ok(if args.strict && missing { shed_api::problem::exit::UNREACHABLE } else { 0 })
}

async fn ask(client: &Client, name: Option<&str>) -> Result<SessionList, Failure> {
    Ok(match name {
        Some(name) => client.sessions(name).await?,
        None => client.all_sessions().await?,
    })
}

/// Prints the list, and again at each change.
pub(super) async fn watch(args: &ListArgs, context: &Context) -> Outcome {
    let server = context.server()?;
    if let Some(name) = &args.name {
        server.client.shed(name).await?;
    }
    let mut updates = server.client.watch_sessions().await?;
    while let Some(mut now) = updates.next().await? {
        if let Some(name) = &args.name {
            now.sessions.retain(|row| row.shed_name == *name);
            now.warnings.retain(|warning| warning.shed == *name);
        }
        let mut list = List { sessions: Vec::new(), warnings: Vec::new() };
        list.add(&server, now);
        if context.out.is_json() {
            context.out.line(&serde_json::to_string(&list).unwrap_or_default())?;
        } else {
            // Overwrites the old list instead of clearing the screen first, so that it does not flicker.
            let lines = context.out.shown(&list.text(args)).replace('\n', "\x1b[K\n");
            context.out.raw(format!("\x1b[H{lines}\x1b[J").as_bytes())?;
        }
    }
    Ok(0)
}

impl List {
    fn add(&mut self, server: &Named, answer: SessionList) {
        let server = &server.name;
        self.sessions.extend(
            answer.sessions.into_iter().map(|session| Row { server: server.clone(), session }),
        );
        self.warnings.extend(answer.warnings.into_iter().map(|warning| {
            let Warning { shed, code, detail, age_ms } = warning;
            let (server, shed) = (server.clone(), Some(shed));
            ServerWarning { server, shed, code: Some(code), reason: detail, age_ms }
        }));
    }

    fn text(&self, args: &ListArgs) -> String {
        let mut head = vec!["SHED"];
        if args.all {
            head.push("SERVER");
        }
        head.extend(["SESSION", "STATUS", "CREATED", "WINDOWS"]);
        if args.long {
            head.extend(["TITLE", "BRANCH", "WORKERS"]);
        }
        let mut rows: Vec<Vec<String>> = self.sessions.iter().map(|row| cells(row, args)).collect();
        for warning in &self.warnings {
            let mut cells = vec![warning.shed.clone().unwrap_or_else(|| "-".to_owned())];
            if args.all {
                cells.push(warning.server.clone());
            }
            // The reason follows the table: its length would widen the column of every row.
            let status = warning.code.map_or("unreachable", Code::as_str);
            cells.extend(["-".to_owned(), status.to_owned()]);
            cells.resize(head.len(), String::new());
            rows.push(cells);
        }
        rows.sort();
        let reasons = self.warnings.iter().map(|warning| warning.line(args.all));
        with_reasons(table(&head, rows), reasons)
    }
}

impl ServerWarning {
    /// The reason, for people.
    fn line(&self, all: bool) -> String {
        let who = match &self.shed {
            Some(shed) if all => format!("{shed} on {}", self.server),
            Some(shed) => shed.clone(),
            None => self.server.clone(),
        };
        let age = self.age_ms.map(|ms| format!(", last seen {} ago", span_ms(ms)));
        format!("{who}: {}{}", self.reason, age.unwrap_or_default())
    }
}

/// A table, and below it why some of its rows lack data.
pub(in crate::commands) fn with_reasons(
    table: String,
    reasons: impl Iterator<Item = String>,
) -> String {
    let reasons: String = reasons.map(|reason| reason + "\n").collect();
    if reasons.is_empty() { table } else { format!("{table}\n{reasons}") }
}

fn cells(row: &Row, args: &ListArgs) -> Vec<String> {
    let Row { server, session } = row;
    let mut cells = vec![session.shed_name.clone()];
    if args.all {
        cells.push(server.clone());
    }
    cells.extend([
        session.name.clone(),
        status(session),
        ago(session.created_at),
        session.window_count.to_string(),
    ]);
    if args.long {
        let workers = session.workers.iter();
        let workers: Vec<String> =
            workers.map(|worker| format!("{}: {}", worker.name, workers::status(worker))).collect();
        cells.extend([
            printable(session.title.as_deref().unwrap_or_default()),
            printable(session.branch.as_deref().unwrap_or_default()),
            workers.join(", "),
        ]);
    }
    cells
}

/// The column STATUS: of a running session whether clients are attached, else its status.
pub(super) fn status(session: &Session) -> String {
    match (session.status, session.attached_clients) {
        (SessionStatus::Running, 0) => "detached".to_owned(),
        (SessionStatus::Running, 1) => "attached".to_owned(),
        (SessionStatus::Running, n) => format!("attached ({n})"),
        (status, _) => status.to_string(),
    }
}
