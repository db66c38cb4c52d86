//! HTTP/1.1 heads and bodies (RFC 9112), without I/O and without WebSocket: bytes in any portions in, values out.
//!
//! [`HeadParser`] reads a head of a request or a response, [`Body`] what of a response's body is kept. [`Request`] and
//! [`Response`] are what users see of them.

mod body;
mod date;
mod head;
mod headers;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use body::Body;
pub use date::parse_date;
pub use head::{Head, HeadError, HeadParser, RequestLine, StartLine, is_informational};
pub use headers::{Headers, clip, is_tchar, is_token, trim};
pub use request::Request;
pub use response::{Response, ResponseBuilder};

#[cfg(test)]
pub(crate) use head::tests as head_tests;
