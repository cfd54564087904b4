//! What workers print: the collector that receives it, the logs that keep it, and those who watch.

pub(crate) mod collector;
pub(crate) mod cursor;
pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod previews;
pub(crate) mod viewers;
