//! Rules about the sources themselves: edges between crates, purity, import circles, manifests, and what documents must name.
#![cfg(test)]

mod circles;
mod documents;
mod edges;
mod files;
mod manifests;
mod page;
mod paths;
mod purity;
mod tokens;
mod workspace;
