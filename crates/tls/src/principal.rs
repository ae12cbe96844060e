//! The principal of a certificate, spelt as Kafka spells it: `User:` and the subject's distinguished name by RFC 2253,
//! most specific part first. Access rules are written against this string, so it must agree with Kafka's to the byte.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    der_parser::asn1_rs::Tag,
    prelude::{FromDer as _, X509Certificate},
    x509::{AttributeTypeAndValue, RelativeDistinguishedName},
};

use crate::Error;

/// The principal of a client that has not said who it is.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

/// The types that RFC 2253 gives a keyword; all others are written as numbers.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// `User:CN=…,O=…` of a certificate's subject.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn principal_of(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| Error::PeerCertificate(error.to_string()))?;
    let mut names: Vec<String> = parsed.subject().iter_rdn().map(relative_name).collect();
    names.reverse();
    Ok(format!("User:{}", names.join(",")))
}

fn relative_name(name: &RelativeDistinguishedName<'_>) -> String {
    name.iter().map(attribute).collect::<Vec<_>>().join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let keyword = KEYWORDS.iter().find(|(known, _)| *known == oid).map(|(_, keyword)| *keyword);
    match (keyword, text(attribute)) {
        (Some(keyword), Some(text)) => format!("{keyword}={}", escape(&text)),
        (keyword, _) => format!("{}=#{}", keyword.unwrap_or(&oid), hex_of_der(attribute)),
    }
}

/// The value as text, where its type is a kind of text.
fn text(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let bytes = attribute.as_slice();
    match attribute.attr_value().tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// Escapes as RFC 2253 section 2.4 asks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';');
        let leading = at == 0 && matches!(character, ' ' | '#');
        let trailing = at == last && character == ' ';
        if special || leading || trailing {
            escaped.push('\\');
        }
        if character == '\0' {
            escaped.push_str("\\00");
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The whole value, type and length included, in lower-case hexadecimal.
fn hex_of_der(attribute: &AttributeTypeAndValue<'_>) -> String {
    let value = attribute.attr_value();
    let bytes = value.as_bytes();
    let class = u32::from(value.class() as u8) << 6;
    let constructed = u32::from(value.header.constructed()) << 5;
    let mut hex = format!("{:02x}", class | constructed | (value.tag().0 & 0x1f));
    match bytes.len() {
        length @ 0..=0x7f => hex.push_str(&format!("{length:02x}")),
        length @ 0x80..=0xff => hex.push_str(&format!("81{length:02x}")),
        length => hex.push_str(&format!("82{length:04x}")),
    }
    for byte in bytes {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}
