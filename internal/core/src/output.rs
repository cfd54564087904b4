//! What workers print: the collector that receives it, the logs that keep it, and the viewers and previews of it.

pub(crate) mod collector;
pub(crate) mod cursor;
pub(crate) mod images;
pub(crate) mod input_writer;
pub(crate) mod logs;
pub(crate) mod pages;
pub(crate) mod preview_stream;
pub(crate) mod previews;
pub(crate) mod viewer;
pub(crate) mod viewers;
