//! `data:` URLs (RFC 2397): the base64 kind only. The declared media type is not believed; the
//! bytes say what they are.

use bytes::Bytes;

use super::MediaError;

/// Whether a URL has the `data:` scheme.
pub fn is_data_url(url: &[u8]) -> bool {
    url.get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
}

/// The bytes of a `data:` URL. White space in the base64 and missing padding are forgiven, as
/// browsers do (WHATWG Infra, "forgiving-base64 decode").
///
/// # Errors
/// No comma, not base64, or more than `max_bytes`.
pub fn decode(url: &[u8], max_bytes: usize) -> Result<Bytes, MediaError> {
    // The header is short; a comma further on would be inside the data.
    let header = &url[..url.len().min(256)];
    let comma = header
        .iter()
        .position(|byte| *byte == b',')
        .ok_or_else(|| MediaError::Url("a data: URL needs a comma before its data".into()))?;
    let is_base64 = header[..comma]
        .rsplit(|byte| *byte == b';')
        .next()
        .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"base64"));
    if !is_base64 {
        return Err(MediaError::Url(
            "a data: URL must be base64: 'data:image/png;base64,...'".into(),
        ));
    }
    let data = &url[comma + 1..];
    // Four characters carry three bytes; white space is not counted exactly, hence the allowance.
    if data.len() / 4 * 3 > max_bytes + max_bytes / 16 {
        return Err(MediaError::TooLarge(max_bytes));
    }
    let bytes = base64_simd::forgiving_decode_to_vec(data).map_err(|_| MediaError::Base64)?;
    if bytes.len() > max_bytes {
        return Err(MediaError::TooLarge(max_bytes));
    }
    if bytes.is_empty() {
        return Err(MediaError::Url("the data: URL has no data".into()));
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_padded_unpadded_and_wrapped() {
        for url in [
            "data:image/png;base64,aGVsbG8=",
            "DATA:;base64,aGVsbG8",
            "data:text/x;q=1;BASE64,aGVs\nbG8=",
        ] {
            assert_eq!(decode(url.as_bytes(), 100).unwrap(), "hello", "{url}");
        }
    }

    #[test]
    fn refuses_what_is_not_base64_or_too_long() {
        assert!(matches!(
            decode(b"data:image/png;base64,a$b=", 100),
            Err(MediaError::Base64)
        ));
        assert!(matches!(
            decode(b"data:image/png,abc", 100),
            Err(MediaError::Url(_))
        ));
        assert!(matches!(
            decode(b"data:image/png;base64", 100),
            Err(MediaError::Url(_))
        ));
        assert!(matches!(
            decode(b"data:;base64,", 100),
            Err(MediaError::Url(_))
        ));
        assert!(matches!(
            decode(b"data:;base64,aGVsbG8=", 4),
            Err(MediaError::TooLarge(4))
        ));
    }
}
