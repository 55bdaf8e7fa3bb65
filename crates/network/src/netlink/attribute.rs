//! Netlink attributes: written into and read from plain byte buffers.

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Appends one attribute.
pub(crate) fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("attributes written here are below 64 KiB");
    buffer.extend_from_slice(&length.to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(value);
    while !buffer.len().is_multiple_of(4) {
        buffer.push(0);
    }
}

/// Appends a NUL-terminated string.
pub(crate) fn put_str(buffer: &mut Vec<u8>, kind: u16, value: &str) {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    put(buffer, kind, &bytes);
}

/// Appends a number in network order, as netfilter wants them.
pub(crate) fn put_be32(buffer: &mut Vec<u8>, kind: u16, value: u32) {
    put(buffer, kind, &value.to_be_bytes());
}

/// Appends an attribute whose value is the attributes `fill` appends.
pub(crate) fn nest(buffer: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    fill(buffer);
    let length = u16::try_from(buffer.len() - start)
        .expect("nested attributes written here are below 64 KiB");
    buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    buffer[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
}

/// The attributes in `bytes`: type (flags removed) and value. A malformed rest is dropped.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// A string value without its NUL.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        put_str(&mut bytes, 1, "eth0");
        nest(&mut bytes, 2, |inner| put_be32(inner, 3, 7));
        assert_eq!(text(find(&bytes, 1).unwrap()), "eth0");
        assert_eq!(find(find(&bytes, 2).unwrap(), 3).unwrap(), [0, 0, 0, 7]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
