//! Unpacking a layer on a second thread while its bytes come in for the content store.

use std::io::Write as _;
use std::thread::JoinHandle;

use wharf_ids::Digest;

use crate::apply::Applied;
use crate::error::ImageError;
use crate::pipe::{PipeWriter, pipe};
use crate::snapshot::Staging;
use crate::store::ImageStore;
use crate::unpack::apply_stream;

/// Takes a copy of a layer's bytes. Dropped before the end, what was unpacked goes to the trash.
#[derive(Debug)]
pub(crate) struct LayerTee {
    /// `None` after the end.
    writer: Option<PipeWriter>,
    thread: Option<JoinHandle<Result<Unpacked, ImageError>>>,
}

/// A layer unpacked from a stream.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the plain bytes; `None` when the stream's bytes were plain.
    pub(crate) diff_id: Option<Digest>,
    pub(crate) staging: Staging,
    pub(crate) applied: Applied,
}

impl LayerTee {
    pub(crate) fn begin(store: &ImageStore) -> Result<Self, ImageError> {
        let staging = store.inner.snapshots.begin_layer()?;
        let (writer, reader) = pipe();
        let unpack = move || {
            let (diff_id, applied) = apply_stream(reader, &staging)?;
            Ok(Unpacked {
                diff_id,
                staging,
                applied,
            })
        };
        let thread = std::thread::Builder::new()
            .name("unpack-layer".to_owned())
            .spawn(unpack);
        let thread = thread.map_err(ImageError::Read)?;
        Ok(Self {
            writer: Some(writer),
            thread: Some(thread),
        })
    }

    /// Passes bytes on; `false` when nobody unpacks any more. Then [`LayerTee::finish`] says why.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self
            .writer
            .as_mut()
            .is_some_and(|writer| writer.write_all(bytes).is_ok());
        if !written {
            self.writer = None;
        }
        written
    }

    /// The stream has ended: waits for the rest to be unpacked.
    pub(crate) fn finish(mut self) -> Result<Unpacked, ImageError> {
        if let Some(writer) = self.writer.take() {
            writer.finish(Ok(()));
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(unpacked)) => unpacked,
            _ => Err(ImageError::ThreadLost("unpacking")),
        }
    }
}

impl Drop for LayerTee {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.give_up();
        }
        // Until then the layer's directory is not in the trash.
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
