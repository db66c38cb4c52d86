//! `Sec-WebSocket-Extensions` (RFC 6455 §9.1), and in it permessage-deflate (RFC 7692 §5 and §7).

use crate::compression::Compression;
use crate::http::{Headers, clip, is_tchar, is_token, trim};
use crate::protocol::DeflateParameters;

const NAME: &str = "permessage-deflate";
const HEADER: &str = "Sec-WebSocket-Extensions";
/// The most extensions, and the most parameters of one: a list element takes much more memory than its bytes on the wire.
const MAX_ELEMENTS: usize = 32;

/// The client's offer; `None` for no header.
pub(super) fn offer(compression: &Compression) -> Option<String> {
    compression.on.then(|| {
        let offer = Parameters {
            server_no_context_takeover: compression.server_no_context_takeover,
            client_no_context_takeover: compression.client_no_context_takeover,
            server_max_window_bits: smaller_than_default(compression.server_max_window_bits),
            client_max_window_bits: Some(smaller_than_default(compression.client_max_window_bits)),
        };
        offer.to_string()
    })
}

/// The parameters that a server's answer to [`offer`] agrees on, or what is wrong with it. The parameters that limit the
/// server are requests: an answer may leave them out.
pub(super) fn check_answer(compression: &Compression, headers: &Headers) -> Result<Option<DeflateParameters>, String> {
    let mut agreed = None;
    for Extension { name, parameters } in parse(headers)? {
        if !compression.on || name != NAME {
            return Err(format!("extension {} was not offered", clip(&name)));
        }
        if agreed.is_some() {
            return Err(format!("extension {NAME} is there twice"));
        }
        agreed = Some(check_parameters(compression, &Parameters::read(&parameters)?)?);
    }
    Ok(agreed)
}

fn check_parameters(compression: &Compression, answer: &Parameters) -> Result<DeflateParameters, String> {
    let client_max_window_bits = match answer.client_max_window_bits {
        Some(None) => return Err("client_max_window_bits has no value".to_owned()),
        Some(Some(8)) => return Err("client_max_window_bits=8, and the encoder cannot do less than 9".to_owned()),
        Some(Some(bits)) => bits,
        None => 15,
    };
    let offered = compression.client_max_window_bits;
    if answer.client_max_window_bits.is_some() && client_max_window_bits > offered {
        return Err(format!("client_max_window_bits is {client_max_window_bits}, and at most {offered} was offered"));
    }
    let asked = compression.server_max_window_bits;
    if let Some(bits) = answer.server_max_window_bits.filter(|&bits| bits > asked) {
        return Err(format!("server_max_window_bits is {bits}, and at most {asked} was asked for"));
    }
    Ok(DeflateParameters {
        // What was offered holds for this side even if the answer does not repeat it (RFC 7692 §7.1.1.2, §7.1.2.2).
        client_no_context_takeover: compression.client_no_context_takeover || answer.client_no_context_takeover,
        server_no_context_takeover: answer.server_no_context_takeover,
        client_max_window_bits: client_max_window_bits.min(compression.client_max_window_bits),
        // What the answer leaves out is not agreed: many servers do not know the parameters, and any window can be inflated.
        server_max_window_bits: answer.server_max_window_bits.unwrap_or(15),
    })
}

/// A server's choice: the first offer that it can accept, and its answer. An offer with a parameter that is unknown,
/// repeated or has an invalid value is declined, not an error (RFC 7692 §5.1 and §7.1).
pub(super) fn choose(compression: &Compression, headers: &Headers) -> Option<(DeflateParameters, String)> {
    let offers = parse(headers).unwrap_or_default();
    let mut ours = offers.iter().filter(|offer| compression.on && offer.name == NAME);
    ours.find_map(|offer| answer(compression, &Parameters::read(&offer.parameters).ok()?))
}

fn answer(compression: &Compression, offer: &Parameters) -> Option<(DeflateParameters, String)> {
    // zlib's encoder cannot do a window of 8.
    if offer.server_max_window_bits == Some(8) {
        return None;
    }
    let agreed = DeflateParameters {
        client_no_context_takeover: compression.client_no_context_takeover || offer.client_no_context_takeover,
        server_no_context_takeover: compression.server_no_context_takeover || offer.server_no_context_takeover,
        // A client that does not name the parameter must not be sent it: it may use 15 (§7.1.2.2).
        client_max_window_bits: match offer.client_max_window_bits {
            Some(bits) => bits.unwrap_or(15).min(compression.client_max_window_bits),
            None => 15,
        },
        server_max_window_bits: offer.server_max_window_bits.unwrap_or(15).min(compression.server_max_window_bits),
    };
    let answer = Parameters {
        server_no_context_takeover: agreed.server_no_context_takeover,
        client_no_context_takeover: agreed.client_no_context_takeover,
        // An offer with the parameter needs an answer with it, also for 15 (§7.1.2.1).
        server_max_window_bits: match offer.server_max_window_bits {
            Some(_) => Some(agreed.server_max_window_bits),
            None => smaller_than_default(agreed.server_max_window_bits),
        },
        client_max_window_bits: smaller_than_default(agreed.client_max_window_bits).map(Some),
    };
    Some((agreed, answer.to_string()))
}

/// The parameters as the text of an answer.
pub(crate) fn describe(agreed: &DeflateParameters) -> String {
    let parameters = Parameters {
        server_no_context_takeover: agreed.server_no_context_takeover,
        client_no_context_takeover: agreed.client_no_context_takeover,
        server_max_window_bits: smaller_than_default(agreed.server_max_window_bits),
        client_max_window_bits: smaller_than_default(agreed.client_max_window_bits).map(Some),
    };
    parameters.to_string()
}

fn smaller_than_default(bits: u8) -> Option<u8> {
    (bits < 15).then_some(bits)
}

/// The parameters of one permessage-deflate, offered or answered.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// Absent, without a value, or with one.
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// The checks for offers and answers alike: unknown names, repetitions and invalid values.
    fn read(parameters: &[(String, Option<String>)]) -> Result<Parameters, String> {
        let mut read = Parameters::default();
        for (name, value) in parameters {
            let bits = || {
                let text = value.as_deref().ok_or_else(|| format!("{name} has no value"))?;
                let legal = (8..=15).find(|bits: &u8| bits.to_string() == text);
                legal.ok_or_else(|| format!("{name} is {}, which is not one of 8 to 15", clip(text)))
            };
            let repeated = match name.as_str() {
                "server_no_context_takeover" => std::mem::replace(&mut read.server_no_context_takeover, true),
                "client_no_context_takeover" => std::mem::replace(&mut read.client_no_context_takeover, true),
                "server_max_window_bits" => read.server_max_window_bits.replace(bits()?).is_some(),
                "client_max_window_bits" => {
                    let bits = value.is_some().then(bits).transpose()?;
                    read.client_max_window_bits.replace(bits).is_some()
                }
                _ => return Err(format!("parameter {} is unknown", clip(name))),
            };
            if repeated {
                return Err(format!("{name} is there twice"));
            }
            if name.ends_with("_takeover") && value.is_some() {
                return Err(format!("{name} has a value, and must not have one"));
            }
        }
        Ok(read)
    }
}

impl std::fmt::Display for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        match self.client_max_window_bits {
            Some(Some(bits)) => write!(f, "; client_max_window_bits={bits}"),
            Some(None) => f.write_str("; client_max_window_bits"),
            None => Ok(()),
        }
    }
}

/// One element of the header's list, before its meaning is checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub name: String,
    pub parameters: Vec<(String, Option<String>)>,
}

/// Parses all lines of the header; the list is empty without the header.
pub(super) fn parse(headers: &Headers) -> Result<Vec<Extension>, String> {
    let mut extensions = Vec::new();
    for line in headers.all(HEADER) {
        let broken = || format!("{HEADER} {} is broken: expected name; parameter=value, …", clip(line));
        parse_line(line, &mut extensions).ok_or_else(broken)?;
    }
    match (headers.get(HEADER), extensions.len()) {
        (Some(_), 0) => Err(format!("{HEADER} is empty")),
        _ => Ok(extensions),
    }
}

/// `extension *( "," extension )`, where empty elements are skipped (RFC 9110 §5.6.1.2).
fn parse_line(line: &str, extensions: &mut Vec<Extension>) -> Option<()> {
    let mut rest = Scanner(trim(line));
    while !rest.0.is_empty() {
        if rest.eat(',') {
            continue;
        }
        let mut extension = Extension { name: rest.token()?, parameters: Vec::new() };
        while extension.parameters.len() <= MAX_ELEMENTS && rest.eat(';') {
            let name = rest.token()?;
            let value = if rest.eat('=') { Some(rest.value()?) } else { None };
            extension.parameters.push((name, value));
        }
        if extensions.len() == MAX_ELEMENTS || extension.parameters.len() > MAX_ELEMENTS {
            return None;
        }
        extensions.push(extension);
        if !rest.0.is_empty() && !rest.eat(',') {
            return None;
        }
    }
    Some(())
}

/// The unread rest of a line; spaces and tabs between its parts are skipped.
struct Scanner<'a>(&'a str);

impl Scanner<'_> {
    fn eat(&mut self, mark: char) -> bool {
        let rest = self.0.strip_prefix(mark);
        self.0 = trim(rest.unwrap_or(self.0));
        rest.is_some()
    }

    fn token(&mut self) -> Option<String> {
        let end = self.0.find(|c| !is_tchar(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = trim(rest);
        is_token(token).then(|| token.to_owned())
    }

    /// A token, or a quoted string whose content is a token.
    fn value(&mut self) -> Option<String> {
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token() };
        let mut value = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        self.0 = trim(chars.as_str());
        is_token(&value).then_some(value)
    }
}

#[cfg(test)]
mod tests;
