//! Hints for the TLS failures that are met most while connecting.

const NO_TLS: &str = " (does the server speak TLS on this port? ws:// is the scheme without)";
const UNTRUSTED: &str =
    " (the certificate's root is not trusted: add it to a TlsConnector and pass that with ConnectOptions::tls)";
const WRONG_NAME: &str = " (the certificate is for another name than the URL's host)";

/// What the texts of the libraries contain. SChannel's texts are in the system's language, but end in a number.
const TABLE: [(&str, &str); 25] = [
    // OpenSSL
    ("wrong version number", NO_TLS),
    ("packet length too long", NO_TLS),
    ("http request", NO_TLS),
    ("unexpected EOF", NO_TLS),
    ("self-signed", UNTRUSTED),
    ("self signed", UNTRUSTED),
    ("unable to get local issuer", UNTRUSTED),
    ("ostname mismatch", WRONG_NAME), // "hostname mismatch", before OpenSSL 3 "Hostname mismatch"
    ("IP address mismatch", WRONG_NAME),
    // SChannel
    ("-2146893048", NO_TLS),    // SEC_E_INVALID_TOKEN
    ("-2146893018", NO_TLS),    // SEC_E_ILLEGAL_MESSAGE
    ("-2146762487", UNTRUSTED), // CERT_E_UNTRUSTEDROOT
    ("0x800B0109", UNTRUSTED),
    ("-2146762486", UNTRUSTED),  // CERT_E_CHAINING
    ("-2146893019", UNTRUSTED),  // SEC_E_UNTRUSTED_ROOT
    ("-2146762481", WRONG_NAME), // CERT_E_CN_NO_MATCH
    ("0x800B010F", WRONG_NAME),
    ("-2146893022", WRONG_NAME), // SEC_E_WRONG_PRINCIPAL
    // Secure Transport: its text, or the number where the system has none
    ("record overflow", NO_TLS),
    ("-9847", NO_TLS), // errSSLRecordOverflow
    ("not trusted", UNTRUSTED),
    ("-9807", UNTRUSTED),  // errSSLXCertChainInvalid
    ("-9812", UNTRUSTED),  // errSSLUnknownRootCert
    ("-9813", UNTRUSTED),  // errSSLNoRootCert
    ("-9843", WRONG_NAME), // errSSLHostNameMismatch
];

/// A hint to follow the error's text; empty where there is none.
pub(super) fn hint(error: &str) -> &'static str {
    TABLE.iter().find(|(text, _)| error.contains(text)).map_or("", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_library_s_text_gets_its_hint() {
        let cases = [
            ("error:0A00010B:SSL routines:ssl3_get_record:wrong version number", NO_TLS),
            ("error:0A00009C:SSL routines:ssl3_get_record:http request", NO_TLS),
            ("certificate verify failed: (self-signed certificate in certificate chain)", UNTRUSTED),
            ("certificate verify failed: (unable to get local issuer certificate)", UNTRUSTED),
            ("certificate verify failed: (hostname mismatch)", WRONG_NAME),
            ("certificate verify failed: (Hostname mismatch)", WRONG_NAME),
            ("certificate verify failed: (IP address mismatch)", WRONG_NAME),
            ("certificate verify failed: (certificate has expired)", ""),
            ("Das Token, das der Funktion übergeben wurde, ist ungültig. (os error -2146893048)", NO_TLS),
            ("A certificate chain processed, but terminated in a root … (os error -2146762487)", UNTRUSTED),
            ("The certificate's CN name does not match the passed value. (os error -2146762481)", WRONG_NAME),
            ("The target principal name is incorrect. (os error -2146893022)", WRONG_NAME),
            ("record overflow", NO_TLS),
            ("The certificate was not trusted.", UNTRUSTED),
            ("error code -9807", UNTRUSTED),
            ("error code -9843", WRONG_NAME),
            ("error code -9841", ""),
            ("connection reset by peer", ""),
        ];
        for (error, expected) in cases {
            assert_eq!(hint(error), expected, "{error}");
        }
    }
}
