//! Container IDs: a file name of letters, digits and `_+-.`, as runc has them.

use crate::error::{Error, Result};

/// The longest name a file may have.
const LENGTH_MAX: usize = 255;

/// Checks that `id` can be a container's ID.
pub(crate) fn check(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > LENGTH_MAX || id == "." || id == ".." || !id.bytes().all(allowed)
    {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names() {
        for good in ["a", "1234-5_6+7.8", "..."] {
            check(good).unwrap();
        }
        for wrong in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(256)] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
    }
}
