//! One attempt to connect in the background, as the program's hook sees it.

use std::time::Duration;

use super::event::ConnectionEnd;
use crate::client::cancel::CancelToken;
use crate::client::options::ConnectOptions;
use crate::error::Result;
use crate::websocket::WebSocket;

/// Shorter than the idle time after which routers and proxies commonly forget a connection (30 s and more), so that a
/// connection stays known to them, and one that is gone is noticed within 40 s.
const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(20);

/// An attempt that is about to begin: what [`before_connect`](crate::BackgroundOptions::before_connect) gets, and may change.
///
/// Each attempt begins with the URL and the options of the [`BackgroundOptions`](crate::BackgroundOptions): a change holds for
/// this attempt only.
///
/// ```no_run
/// use wsync::Background;
///
/// let servers = ["wss://a.example.com/feed", "wss://b.example.com/feed"];
/// let feed = Background::options()
///     .before_connect(move |attempt| {
///         attempt.set_url(servers[attempt.number() as usize % servers.len()]);
///         attempt.options_mut().set_header("Authorization", "Bearer a fresh token");
///         Ok(())
///     })
///     .connect(servers[0], || {})?;
/// # Ok::<(), wsync::Error>(())
/// ```
#[derive(Debug)]
pub struct Attempt<'a> {
    info: AttemptInfo<'a>,
    url: String,
    options: ConnectOptions,
}

/// What the supervisor knows of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct AttemptInfo<'a> {
    pub number: u32,
    pub last_end: Option<&'a ConnectionEnd>,
    /// Ends the attempt.
    pub cancel: CancelToken,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(info: AttemptInfo<'a>, url: &str, options: &ConnectOptions) -> Attempt<'a> {
        Attempt { info, url: url.to_string(), options: options.clone() }
    }

    /// The number of this attempt since the last stable connection: 0 for the first one, then that of the
    /// [`Event::Reconnecting`](crate::Event::Reconnecting) before it. See [the example](Attempt).
    pub fn number(&self) -> u32 {
        self.info.number
    }

    /// How the last attempt or connection ended; `None` for the first attempt. The error of a rejection has the answer:
    /// its [`status`](crate::Error::status) and its headers.
    ///
    /// ```no_run
    /// use wsync::{Background, ConnectionEnd, Error};
    ///
    /// let feed = Background::options()
    ///     .before_connect(|attempt| {
    ///         if attempt.last_end().and_then(ConnectionEnd::error).and_then(Error::status) == Some(401) {
    ///             println!("the token has expired");
    ///         }
    ///         Ok(())
    ///     })
    ///     .connect("wss://example.com/feed", || {})?;
    /// # Ok::<(), wsync::Error>(())
    /// ```
    pub fn last_end(&self) -> Option<&'a ConnectionEnd> {
        self.info.last_end
    }

    /// The URL to connect to. See [the example](Attempt).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes the URL: another server, or a position to resume from in the query. See [the example](Attempt).
    pub fn set_url(&mut self, url: impl Into<String>) {
        self.url = url.into();
    }

    /// The options to connect with. See [the example](Attempt).
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// The same, to be changed: `*attempt.options_mut() = …`, or [`set_header`](ConnectOptions::set_header). See
    /// [the example](Attempt).
    pub fn options_mut(&mut self) -> &mut ConnectOptions {
        &mut self.options
    }

    /// Connects; the supervisor can cancel it.
    pub(super) fn connect(self) -> Result<WebSocket> {
        let mut options = self.options.cancel_token(&self.info.cancel);
        if !options.bounds.is_ping_interval_chosen {
            options = options.ping_interval(DEFAULT_PING_INTERVAL);
        }
        options.connect(&self.url)
    }
}
