//! Random identifiers.

/// `N` bytes from the kernel's generator.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .expect("the kernel always has random bytes once it has booted");
    }
    bytes
}

/// 64 lower-case hex digits, Docker's form of an id.
///
/// The first twelve are never all decimal digits: such a short id, used as a host name, could be
/// taken for a number.
pub fn hex_id() -> String {
    loop {
        let id = to_hex(&random_bytes::<32>());
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return id;
        }
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}
