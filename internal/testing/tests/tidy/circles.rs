//! Import circles: files of one crate that reach each other through what they import.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::paths::{Binding, Module, Names, Written};
use crate::tokens::code;
use crate::workspace::{packages, sources, src};

/// More files than this in one circle cannot be understood, moved or tested one at a time.
const MAX_FILES: usize = 10;
/// A re-export of a re-export … ends somewhere.
const MAX_STEPS: usize = 16;

/// For each file the files that it imports. Whoever imports a name that another file re-exports imports the file that defines
/// it; the re-export itself and `mod` declarations import nothing.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_import_circle_has_more_than_ten_files() {
    let mut report = String::new();
    for (name, package) in packages() {
        let dir = src(&package);
        let files = sources(&package).into_iter().map(|(file, text)| {
            let short = file.strip_prefix(&dir).unwrap().to_owned();
            (short, text)
        });
        let graph = graph(&files.collect::<Vec<_>>());
        let large = circles(&graph).into_iter().filter(|circle| circle.len() > MAX_FILES);
        for circle in large {
            report += &describe(&name, &circle, &graph);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The circle with the imports that close it, one line per file.
fn describe(name: &str, circle: &BTreeSet<String>, graph: &Graph) -> String {
    let mut text = format!("{name}: {} files import each other in a circle\n", circle.len());
    for file in circle {
        let inside: Vec<&str> = graph[file].intersection(circle).map(String::as_str).collect();
        writeln!(text, "  {file} -> {}", inside.join(", ")).unwrap();
    }
    text
}

/// Sets of at least two files of which each reaches each other, the largest first.
fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|file| (file.as_str(), reach(graph, file))).collect();
    let circle = |file: &str| -> BTreeSet<String> {
        let back = reached[file].iter().filter(|other| reached[*other].contains(file));
        back.map(|other| (*other).to_owned()).collect()
    };
    let found: BTreeSet<_> =
        graph.keys().map(|file| circle(file)).filter(|it| it.len() > 1).collect();
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    found
}

/// The files that `from` reaches over at least one import.
fn reach<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&str> = graph[from].iter().map(String::as_str).collect();
    while let Some(file) = ahead.pop() {
        if found.insert(file) {
            ahead.extend(graph[file].iter().map(String::as_str));
        }
    }
    found
}

/// Reads the files of a crate; their names are relative to `src`.
fn graph(files: &[(String, String)]) -> Graph {
    let tree = Tree::read(files);
    let mut graph: Graph = files.iter().map(|(name, _)| (name.clone(), BTreeSet::new())).collect();
    for (file, written) in tree.written.iter().filter(|(_, written)| !written.exported) {
        if let Some(to) = tree.file_of(written).filter(|to| to != file) {
            graph.entry(file.clone()).or_default().insert(to);
        }
    }
    graph
}

/// A crate's modules.
#[derive(Default)]
struct Tree {
    /// Each module's file; an inline module has that of the module around it.
    modules: BTreeMap<Module, String>,
    /// Every path, with its file.
    written: Vec<(String, Written)>,
    /// What `use` declarations make known in a module: the paths behind the name.
    names: BTreeMap<(Module, String), Written>,
    /// What `use …::*` declarations bring into a module.
    globs: BTreeMap<Module, Vec<Written>>,
    items: BTreeSet<(Module, String)>,
}

/// What a path leads to.
enum Target {
    Module(Module),
    /// An item that is defined in this file.
    Item(String),
}

impl Tree {
    fn read(files: &[(String, String)]) -> Self {
        let mut tree = Self::default();
        for (file, text) in files {
            let module = module_of(file);
            let taken = tree.modules.insert(module.clone(), file.clone());
            assert!(taken.is_none(), "{file} and {taken:?} are the same module");
            let names = Names::read(&code(file, text), &module);
            tree.modules.extend(names.inline_modules.into_iter().map(|it| (it, file.clone())));
            tree.items.extend(names.items);
            tree.written.extend(names.written.into_iter().map(|it| (file.clone(), it)));
        }
        for (_, written) in &tree.written {
            let module = written.module.clone();
            match &written.binding {
                Some(Binding::Name(name)) => {
                    tree.names.insert((module, name.clone()), written.clone());
                }
                Some(Binding::Glob) => {
                    tree.globs.entry(module).or_default().push(written.clone());
                }
                None => {}
            }
        }
        tree
    }

    /// The file that a path leads to; `None` if it leads out of the crate.
    fn file_of(&self, written: &Written) -> Option<String> {
        Some(match self.resolve(written, MAX_STEPS)? {
            Target::Module(module) => self.modules[&module].clone(),
            Target::Item(file) => file,
        })
    }

    fn resolve(&self, written: &Written, steps: usize) -> Option<Target> {
        let steps = steps.checked_sub(1)?;
        let module = &written.module;
        let n_supers = written.segments.iter().take_while(|it| *it == "super").count();
        let rest = &written.segments[n_supers..];
        if n_supers > 0 {
            let parent = module.len().checked_sub(n_supers)?;
            return self.follow(module[..parent].to_vec(), rest, steps);
        }
        match rest.first()?.as_str() {
            "crate" => self.follow(Vec::new(), &rest[1..], steps),
            "self" => self.follow(module.clone(), &rest[1..], steps),
            first => {
                let child = [module.as_slice(), &[first.to_owned()]].concat();
                let known = self.names.get(&(module.clone(), first.to_owned()));
                let own = known.filter(|known| *known != written);
                if self.modules.contains_key(&child) {
                    self.follow(child, &rest[1..], steps)
                } else {
                    match self.resolve(own?, steps)? {
                        Target::Module(module) => self.follow(module, &rest[1..], steps),
                        item @ Target::Item(_) => Some(item),
                    }
                }
            }
        }
    }

    /// Goes on from a module of the crate.
    fn follow(&self, module: Module, segments: &[String], steps: usize) -> Option<Target> {
        let steps = steps.checked_sub(1)?;
        let Some((name, rest)) = segments.split_first() else {
            return Some(Target::Module(module));
        };
        let child = [module.as_slice(), std::slice::from_ref(name)].concat();
        if self.modules.contains_key(&child) {
            return self.follow(child, rest, steps);
        }
        // A name that the module takes from elsewhere is the other file's, not this one's.
        let named = self.names.get(&(module.clone(), name.clone()));
        let here = Target::Item(self.modules.get(&module)?.clone());
        match named.map(|written| self.resolve(written, steps)) {
            Some(Some(Target::Module(module))) => return self.follow(module, rest, steps),
            Some(Some(item)) => return Some(item),
            // From another crate, through this module.
            Some(None) => return Some(here),
            None => {}
        }
        for glob in self.globs.get(&module).into_iter().flatten() {
            if let Some(Target::Module(other)) = self.resolve(glob, steps) {
                let key = (other.clone(), name.clone());
                if self.items.contains(&key) || self.names.contains_key(&key) {
                    return self.follow(other, segments, steps);
                }
            }
        }
        Some(here)
    }
}

/// `a/b.rs` is `a::b`; `lib.rs` and `main.rs` are the root.
fn module_of(file: &str) -> Module {
    let path = file.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let root = ["lib", "main"].contains(&path);
    if root { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let line = |(from, to): (String, BTreeSet<String>)| {
            to.into_iter().map(move |to| format!("{from} -> {to}"))
        };
        graph(&files).into_iter().flat_map(line).collect()
    }

    #[test]
    fn imports_are_found_in_every_form() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::{self, c::{X as Y, Z}, W};"),
            ("b.rs", "mod c; fn f() { select! { x => crate::c::f() } }"),
            ("b/c.rs", "use super::W; fn f() { let x: super::super::a::T; }"),
            ("c.rs", "mod inner { fn f() { super::super::a::f(); } }"),
        ];
        let expected = [
            "a.rs -> b.rs",
            "a.rs -> b/c.rs",
            "b.rs -> c.rs",
            "b/c.rs -> a.rs",
            "b/c.rs -> b.rs",
            "c.rs -> a.rs",
        ];
        assert_eq!(imports(&files), expected);
    }

    #[test]
    fn a_name_belongs_to_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; pub use b::B; pub use c::*;"),
            ("a.rs", "use crate::{B, C, D}; use crate::b; fn f() { b::inner::X::new(); }"),
            ("b.rs", "pub mod inner; pub struct B;"),
            ("b/inner.rs", "pub struct X;"),
            ("c.rs", "pub struct C; pub use shed_api::D;"),
        ];
        let expected = ["a.rs -> b.rs", "a.rs -> b/inner.rs", "a.rs -> c.rs"];
        assert_eq!(imports(&files), expected);
    }

    #[test]
    fn declarations_comments_texts_tests_and_other_crates_import_nothing() {
        let a = "//! See [`crate::b::B`].\npub(in crate::b) fn f() { // crate::b\n \"crate::b::B\"; \
                 x.b::<u8>(); std::b::c(); }\n#[cfg(test)] mod tests { use crate::b::B; }";
        let files = [("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", "pub struct B;")];
        assert_eq!(imports(&files), [""; 0]);
    }

    #[test]
    fn a_circle_is_the_files_that_reach_each_other() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d; use a::A;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::{a::A, d::D};"),
            ("d.rs", "pub struct D;"),
        ];
        let files: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let circle = ["a.rs", "b.rs", "c.rs"].map(str::to_owned);
        assert_eq!(circles(&graph(&files)), [BTreeSet::from(circle)]);
    }
}
