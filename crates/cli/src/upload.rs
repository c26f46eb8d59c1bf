//! Bodies that are read while they are sent.

use std::io::{self, Read, Write};

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_api::client::Body;

/// Bytes sent at once.
const PIECE: usize = 64 << 10;

/// Pieces read ahead.
const AHEAD: usize = 4;

/// A body from a reader, read in a thread of its own.
pub(crate) fn from_reader(mut reader: impl Read + Send + 'static) -> Body {
    from_writer(move |writer| io::copy(&mut reader, writer).map(drop))
}

/// A body from a function that writes it, in a thread of its own. When it fails, so does the
/// request.
pub(crate) fn from_writer<F>(write: F) -> Body
where
    F: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut writer = io::BufWriter::with_capacity(PIECE, Pieces { sender: sender.clone() });
        let written = write(&mut writer).and_then(|()| writer.flush());
        if let Err(error) = written {
            // Without a receiver nobody waits for the error any more.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Body::stream(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine stopped reading"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
