//! What sessions leave behind: orphans, what is kept and for how long, the trash.

pub(crate) mod clean;
pub(crate) mod collect;
pub(crate) mod disk_space;
pub(crate) mod leftover;
pub(crate) mod log_dirs;
pub(crate) mod orphans;
pub(crate) mod output_limit;
pub(crate) mod retention;
