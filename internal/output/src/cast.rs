//! Recordings in the format asciicast v2: a header, then one JSON array per line.
//!
//! Output is `o`, a new size `r`. Starts and ends of the command and missing bytes are markers (`m`), which players show on
//! their timeline.

use std::io::Write;
use std::ops::Range;

use serde_json::json;

use crate::marks::Size;
use crate::walk::{Event, Walk};
use crate::{Error, Exit, Reader};

/// The size if the log has none.
const DEFAULT_SIZE: Size = Size { cols: 80, rows: 24 };

/// The most bytes of an incomplete character that are carried over.
const MAX_CARRY: usize = 3;

impl Reader {
    /// Writes a recording of `range`, as far as it is stored, to `out`.
    ///
    /// Times are seconds since the first byte and never decrease. Characters that arrived in parts are joined; bytes that are
    /// not UTF-8 become U+FFFD.
    pub fn cast(&self, range: Range<u64>, out: &mut impl Write) -> Result<(), Error> {
        let mut walk = Walk::new(self, range.start, range.end)?;
        let (state, began_ms) = walk.first();
        let size = state.size.unwrap_or(DEFAULT_SIZE);
        let header = json!({
            "version": 2,
            "width": size.cols,
            "height": size.rows,
            "timestamp": began_ms / 1000,
        });
        let mut cast = Cast { out, began_ms, passed_ms: 0, carry: Vec::new() };
        cast.line(&header)?;
        while let Some((at_ms, event)) = walk.step()? {
            cast.write(at_ms, event)?;
        }
        cast.flush()
    }
}

struct Cast<'w, W> {
    out: &'w mut W,
    began_ms: u64,
    passed_ms: u64,
    /// An incomplete character at the end of the last output.
    carry: Vec<u8>,
}

impl<W: Write> Cast<'_, W> {
    fn write(&mut self, at_ms: u64, event: Event) -> Result<(), Error> {
        let passed_ms = at_ms.saturating_sub(self.began_ms);
        if let Event::Bytes { bytes, .. } = event {
            self.passed_ms = self.passed_ms.max(passed_ms);
            self.carry.extend(bytes);
            let whole = self.carry.len() - unfinished(&self.carry);
            let rest = self.carry.split_off(whole);
            let text = std::mem::replace(&mut self.carry, rest);
            return self.output(&text);
        }
        if matches!(event, Event::Gap(_) | Event::Epoch(_)) {
            // What follows cannot complete the character.
            self.flush()?;
        }
        self.passed_ms = self.passed_ms.max(passed_ms);
        match event {
            Event::Bytes { .. } => Ok(()),
            Event::Resize(Size { cols, rows }) => self.event("r", &format!("{cols}x{rows}")),
            Event::Epoch(epoch) => self.event("m", &format!("start {epoch}")),
            Event::Gap(n_bytes) => self.event("m", &format!("{n_bytes} bytes missing")),
            Event::Exit(Exit::Code(code)) => self.event("m", &format!("exit {code}")),
            Event::Exit(Exit::Signal(signal)) => self.event("m", &format!("signal {signal}")),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let carry = std::mem::take(&mut self.carry);
        self.output(&carry)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() { Ok(()) } else { self.event("o", &String::from_utf8_lossy(bytes)) }
    }

    fn event(&mut self, kind: &str, data: &str) -> Result<(), Error> {
        let (seconds, millis) = (self.passed_ms / 1000, self.passed_ms % 1000);
        let data = serde_json::to_string(data).expect("text is JSON");
        writeln!(self.out, "[{seconds}.{millis:03}, \"{kind}\", {data}]").map_err(Error::Sink)
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<(), Error> {
        writeln!(self.out, "{value}").map_err(Error::Sink)
    }
}

/// Number of bytes at the end that begin an incomplete character.
pub(crate) fn unfinished(bytes: &[u8]) -> usize {
    for n_bytes in 1..=MAX_CARRY.min(bytes.len()) {
        let end = &bytes[bytes.len() - n_bytes..];
        if end[0] & 0xc0 != 0x80 {
            let error = std::str::from_utf8(end).err();
            let waits = error.is_some_and(|error| error.error_len().is_none());
            return if waits { n_bytes } else { 0 };
        }
    }
    0
}
