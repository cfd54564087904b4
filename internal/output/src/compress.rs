//! Compressing old chunks, on a thread of its own: appending never waits for it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Error;
use crate::catalog::{Catalog, Closed};
use crate::files::{self, Name};

/// Level 6 takes twice the time for six bytes less in a hundred; level 1 saves half the time and keeps two fifths more.
const LEVEL: u32 = 3;

/// Compresses the chunks of one [`Log`](crate::Log) that left its live part.
#[derive(Debug, Clone)]
pub struct Compressor {
    catalog: Arc<Mutex<Catalog>>,
}

pub(crate) fn lock(catalog: &Mutex<Catalog>) -> MutexGuard<'_, Catalog> {
    // A catalog is whole between any two of its steps.
    catalog.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Compressor {
    pub(crate) fn new(catalog: Arc<Mutex<Catalog>>) -> Self {
        Self { catalog }
    }

    /// Compresses the oldest chunk that waits; whether there was one. Does nothing once the log is dropped.
    ///
    /// The compressed file gets its name when it is whole and on disk; the bytes as they came go after that. So there
    /// is at every instant a whole copy, and where there are two they say the same.
    pub fn compress_one(&self) -> Result<bool, Error> {
        let (dir, chunk) = {
            let mut catalog = lock(&self.catalog);
            if catalog.over {
                return Ok(false);
            }
            let Some(chunk) = catalog.take_pending() else {
                return Ok(false);
            };
            (catalog.dir.clone(), chunk)
        };
        let Closed { start, end, .. } = chunk;
        let (raw, unfinished) = (Name::Raw { start }, Name::Unfinished { start });
        let (raw, unfinished) = (raw.path(&dir), unfinished.path(&dir));
        let written =
            File::open(&raw).map_err(|source| Error::io("open", &raw, source)).and_then(|input| {
                let output = files::create(&unfinished)?;
                let n_bytes = compress(input.take(end - start), output);
                n_bytes.map_err(|source| Error::io("write", &unfinished, source))
            });

        let mut catalog = lock(&self.catalog);
        let over = catalog.over;
        let Some(entry) = catalog.find(start).filter(|_| !over) else {
            // It was too old by now, and its files are gone.
            drop(catalog);
            files::remove(&unfinished)?;
            return Ok(!over);
        };
        entry.busy = false;
        let n_bytes = match written {
            Ok(n_bytes) => n_bytes,
            Err(error) => {
                files::remove(&unfinished)?;
                return Err(error);
            }
        };
        let gz = Name::Gz { start, end }.path(&dir);
        fs::rename(&unfinished, &gz).map_err(|source| Error::io("name", &gz, source))?;
        entry.gz = true;
        entry.disk_bytes = entry.disk_bytes.saturating_sub(end - start) + n_bytes;
        // The writer does not wait for the disk.
        drop(catalog);
        files::sync_dir(&dir)?;
        files::remove(&raw)?;
        lock(&self.catalog).trim()?;
        Ok(true)
    }
}

/// Writes what `input` has to `output`, compressed and synced; how many bytes that took.
fn compress(mut input: io::Take<File>, output: File) -> io::Result<u64> {
    let mut encoder = GzEncoder::new(output, Compression::new(LEVEL));
    io::copy(&mut input, &mut encoder)?;
    if input.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let output = encoder.finish()?;
    output.sync_all()?;
    Ok(output.metadata()?.len())
}
