//! Streams of JSON documents, however they are cut into pieces.

use std::marker::PhantomData;

use bytes::{Buf as _, BytesMut};
use serde::de::DeserializeOwned;

use super::{ClientError, Response};

/// JSON documents one after another, with or without line breaks between them.
#[derive(Debug)]
pub struct Documents<T> {
    response: Response,
    buffer: BytesMut,
    ended: bool,
    document: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Documents<T> {
    pub(super) fn new(response: Response) -> Self {
        Self {
            response,
            buffer: BytesMut::new(),
            ended: false,
            document: PhantomData,
        }
    }

    /// The next document, `None` at the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks off, also inside a document, or a document is not a `T`.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(document) = take_document(&mut self.buffer, self.ended)? {
                return Ok(Some(document));
            }
            if self.ended {
                return Ok(None);
            }
            match self.response.chunk().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => self.ended = true,
            }
        }
    }
}

/// Takes one document from the front, `None` while it is not whole. At the end of the stream a
/// document that is not whole is an error.
fn take_document<T: DeserializeOwned>(buffer: &mut BytesMut, ended: bool) -> Result<Option<T>, ClientError> {
    let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    buffer.advance(blank);
    let mut documents = serde_json::Deserializer::from_slice(buffer).into_iter::<T>();
    match documents.next() {
        None => Ok(None),
        Some(Ok(document)) => {
            let used = documents.byte_offset();
            buffer.advance(used);
            Ok(Some(document))
        }
        Some(Err(error)) if error.is_eof() && !ended => Ok(None),
        Some(Err(error)) => Err(ClientError::Json(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_come_out_of_any_pieces() {
        let text = b"{\"a\":1}\r\n{\"a\":2}{\"a\":3}\n\n";
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in text {
            buffer.extend_from_slice(&[*byte]);
            while let Some(value) = take_document::<serde_json::Value>(&mut buffer, false).unwrap() {
                found.push(value["a"].as_i64().unwrap());
            }
        }
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn a_stream_cut_inside_a_document_is_an_error() {
        let mut buffer = BytesMut::from(&b"{\"a\":"[..]);
        assert!(
            take_document::<serde_json::Value>(&mut buffer, false)
                .unwrap()
                .is_none()
        );
        assert!(take_document::<serde_json::Value>(&mut buffer, true).is_err());
    }
}
