//! Documents name everything that they must name.

use shed_api::{Code, EventKind};

use crate::workspace::read;

#[test]
fn the_api_document_names_every_problem_and_event() {
    let text = read("docs/API.md");
    for code in Code::ALL {
        assert!(text.contains(&format!("`{}`", code.as_str())), "problem {}", code.as_str());
    }
    for kind in EventKind::ALL {
        assert!(text.contains(&format!("`{}`", kind.as_str())), "event {}", kind.as_str());
    }
}
