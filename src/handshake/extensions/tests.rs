use super::*;

fn header(lines: &[&str]) -> Headers {
    let mut headers = Headers::default();
    lines.iter().for_each(|line| headers.push("sec-websocket-extensions", line));
    headers
}

/// The grammar's outcome as text: `name;parameter=value`.
fn parsed(lines: &[&str]) -> Option<Vec<String>> {
    let extensions = parse(&header(lines)).ok()?;
    let show = |Extension { name, parameters }: Extension| {
        parameters.into_iter().fold(name, |text, (name, value)| match value {
            Some(value) => format!("{text};{name}={value}"),
            None => format!("{text};{name}"),
        })
    };
    Some(extensions.into_iter().map(show).collect())
}

#[test]
fn the_grammar_of_rfc_6455_9_1() {
    let fine: &[(&[&str], &[&str])] = &[
        (&[], &[]),
        (&["a"], &["a"]),
        (&["a,b", "c"], &["a", "b", "c"]),
        (&[" a ;\tb = c ; d , e"], &["a;b=c;d", "e"]),
        (&["a;b=\"c\""], &["a;b=c"]),
        (&["a;b=\"\\c\\d\" , e"], &["a;b=cd", "e"]),
        (&[",a,,b,"], &["a", "b"]),
        (&["", "a"], &["a"]),
    ];
    for (lines, expected) in fine {
        assert_eq!(parsed(lines).unwrap(), *expected);
    }
    let broken = [
        "",
        ",",
        ";",
        "a;",
        "a;;b",
        "a b",
        "a;b=",
        "a;b=\"\"",
        "a;b=\"c",
        "a;b=\"c\\",
        "a;b=\"c d\"",
        "a;b=\"c\"d",
        "a;b=\"c,d\"",
        "a=b",
        "=",
        "a;=b",
        "\"a\"",
        "a;b=c=d",
        "a;b c",
        "é",
        "a;é",
        "a;b=é",
        "a/b",
        "a;b=\"\\",
    ];
    for line in broken {
        assert_eq!(parsed(&[line]), None, "{line:?}");
    }
}

#[test]
fn a_list_does_not_grow_without_bound() {
    assert!(parsed(&[&"a,".repeat(MAX_ELEMENTS)]).is_some());
    assert!(parsed(&[&"a,".repeat(MAX_ELEMENTS + 1)]).is_none());
    assert!(parsed(&[&format!("a{}", ";b".repeat(MAX_ELEMENTS))]).is_some());
    assert!(parsed(&[&format!("a{}", ";b".repeat(MAX_ELEMENTS + 1))]).is_none());
}

#[test]
fn offers() {
    let on = Compression::default();
    assert_eq!(offer(&Compression::off()), None);
    assert_eq!(offer(&on).unwrap(), "permessage-deflate; client_max_window_bits");
    let all = on.client_no_context_takeover(true).server_no_context_takeover(true);
    let all = all.client_max_window_bits(9).server_max_window_bits(8);
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
        server_max_window_bits=8; client_max_window_bits=9";
    assert_eq!(offer(&all).unwrap(), expected);
}

/// Both takeovers and both windows, the client's first.
fn short(agreed: DeflateParameters) -> (bool, bool, u8, u8) {
    let DeflateParameters { client_no_context_takeover, server_no_context_takeover, .. } = agreed;
    let (client, server) = (agreed.client_max_window_bits, agreed.server_max_window_bits);
    (client_no_context_takeover, server_no_context_takeover, client, server)
}

#[test]
fn answers_that_a_client_takes() {
    let on = Compression::default();
    let strict = on.clone().server_no_context_takeover(true).client_no_context_takeover(true);
    let strict = strict.server_max_window_bits(12).client_max_window_bits(10);
    let table = [
        (&on, "permessage-deflate", (false, false, 15, 15)),
        (&on, "permessage-deflate; client_no_context_takeover", (true, false, 15, 15)),
        (&on, "permessage-deflate; server_no_context_takeover", (false, true, 15, 15)),
        (&on, "permessage-deflate; server_max_window_bits=8", (false, false, 15, 8)),
        (&on, "permessage-deflate; server_max_window_bits=\"10\"; client_max_window_bits=9", (false, false, 9, 10)),
        (&strict, "permessage-deflate;server_no_context_takeover;server_max_window_bits=12", (true, true, 10, 12)),
        (
            &strict,
            "permessage-deflate; server_max_window_bits=9; server_no_context_takeover; client_max_window_bits=10",
            (true, true, 10, 9),
        ),
        // What limits the server is a request. What limits the client holds also if the answer leaves it out.
        (&strict, "permessage-deflate", (true, false, 10, 15)),
        (&strict, "permessage-deflate; server_no_context_takeover", (true, true, 10, 15)),
        (&strict, "permessage-deflate; client_max_window_bits=9", (true, false, 9, 15)),
    ];
    for (compression, answer, expected) in table {
        let agreed = check_answer(compression, &header(&[answer])).unwrap().unwrap();
        assert_eq!(short(agreed), expected, "{answer}");
    }
    assert_eq!(check_answer(&on, &header(&[])), Ok(None));
}

#[test]
fn answers_that_a_client_refuses() {
    let on = Compression::default();
    let narrow = on.clone().client_max_window_bits(10);
    let small = on.clone().server_max_window_bits(10);
    let off = Compression::off();
    let table = [
        (&off, "permessage-deflate", "was not offered"),
        (&on, "", "is empty"),
        (&on, "permessage-deflate;", "is broken"),
        (&on, "x-webkit-deflate-frame", "was not offered"),
        (&on, "Permessage-Deflate", "was not offered"),
        (&on, "permessage-deflate, other", "\"other\" was not offered"),
        (&on, "permessage-deflate, permessage-deflate", "twice"),
        (&on, "permessage-deflate; what", "\"what\" is unknown"),
        (&on, "permessage-deflate; server_no_context_takeover=1", "must not have"),
        (&on, "permessage-deflate; client_no_context_takeover=\"x\"", "must not have"),
        (&on, "permessage-deflate; server_no_context_takeover; server_no_context_takeover", "twice"),
        (&on, "permessage-deflate; client_no_context_takeover; client_no_context_takeover", "twice"),
        (&on, "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", "twice"),
        (&on, "permessage-deflate; client_max_window_bits=9; client_max_window_bits=10", "twice"),
        (&on, "permessage-deflate; server_max_window_bits", "has no value"),
        (&on, "permessage-deflate; server_max_window_bits=7", "not one of 8 to 15"),
        (&on, "permessage-deflate; server_max_window_bits=16", "not one of 8 to 15"),
        (&on, "permessage-deflate; server_max_window_bits=1000", "not one of 8 to 15"),
        (&on, "permessage-deflate; server_max_window_bits=08", "not one of 8 to 15"),
        (&on, "permessage-deflate; server_max_window_bits=+9", "not one of 8 to 15"),
        (&on, "permessage-deflate; client_max_window_bits", "has no value"),
        (&on, "permessage-deflate; client_max_window_bits=8", "cannot do less than 9"),
        (&on, "permessage-deflate; client_max_window_bits=0", "not one of 8 to 15"),
        (&on, "permessage-deflate; client_max_window_bits=015", "not one of 8 to 15"),
        (&small, "permessage-deflate; server_max_window_bits=11", "at most 10"),
        (&small, "permessage-deflate; server_max_window_bits=15", "at most 10"),
        (&narrow, "permessage-deflate; client_max_window_bits=11", "at most 10 was offered"),
        (&narrow, "permessage-deflate; client_max_window_bits=15", "at most 10 was offered"),
    ];
    for (compression, answer, expected) in table {
        let error = check_answer(compression, &header(&[answer])).expect_err(answer);
        assert!(error.contains(expected), "{answer}: {error}");
    }
}

#[test]
fn what_a_server_chooses() {
    let on = Compression::default();
    let small = on.clone().server_max_window_bits(11).client_max_window_bits(8).client_no_context_takeover(true);
    let forgetful = on.clone().server_no_context_takeover(true);
    let table: &[(&Compression, &[&str], Option<&str>)] = &[
        (&Compression::off(), &["permessage-deflate"], None),
        (&on, &[], None),
        (&on, &["other, permessage-deflate"], Some("permessage-deflate")),
        (&on, &["permessage-deflate; client_max_window_bits"], Some("permessage-deflate")),
        (&on, &["permessage-deflate; client_max_window_bits=8"], Some("permessage-deflate; client_max_window_bits=8")),
        (
            &on,
            &["permessage-deflate; server_max_window_bits=15"],
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        // Declined, and the next is tried: a window that the encoder cannot do, what RFC 7692 section 7.1 declines.
        (&on, &["permessage-deflate; server_max_window_bits=8"], None),
        (
            &on,
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9"],
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (&on, &["permessage-deflate; what", "permessage-deflate"], Some("permessage-deflate")),
        (&on, &["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&on, &["permessage-deflate; server_max_window_bits"], None),
        (&on, &["permessage-deflate; server_no_context_takeover=x"], None),
        (&on, &["permessage-deflate; client_max_window_bits=16"], None),
        (
            &on,
            &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (&forgetful, &["permessage-deflate"], Some("permessage-deflate; server_no_context_takeover")),
        // A client that does not name client_max_window_bits is not sent it.
        (
            &small,
            &["permessage-deflate"],
            Some("permessage-deflate; client_no_context_takeover; server_max_window_bits=11"),
        ),
        (
            &small,
            &["permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"],
            Some("permessage-deflate; client_no_context_takeover; server_max_window_bits=10; client_max_window_bits=8"),
        ),
    ];
    for (compression, offers, expected) in table {
        let chosen = choose(compression, &header(offers));
        assert_eq!(chosen.as_ref().map(|(_, answer)| answer.as_str()), *expected, "{offers:?}");
        if let Some((agreed, answer)) = chosen {
            // The answer says what was agreed, and nothing else is meant.
            let read = Parameters::read(&parse(&header(&[&answer])).unwrap()[0].parameters).unwrap();
            let said = (read.client_no_context_takeover, read.server_no_context_takeover);
            let bits = read.client_max_window_bits.flatten().unwrap_or(15);
            assert_eq!(short(agreed), (said.0, said.1, bits, read.server_max_window_bits.unwrap_or(15)));
        }
    }
}

#[test]
fn what_was_agreed_is_described_as_in_an_answer() {
    let default = DeflateParameters {
        client_no_context_takeover: false,
        server_no_context_takeover: false,
        client_max_window_bits: 15,
        server_max_window_bits: 15,
    };
    assert_eq!(describe(&default), "permessage-deflate");
    let all = DeflateParameters {
        client_no_context_takeover: true,
        server_no_context_takeover: true,
        client_max_window_bits: 14,
        server_max_window_bits: 9,
    };
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
        server_max_window_bits=9; client_max_window_bits=14";
    assert_eq!(describe(&all), expected);
}
