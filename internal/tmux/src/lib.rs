//! shed-tmux.
