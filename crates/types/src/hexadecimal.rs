//! Bytes as hexadecimal digits.

/// Writes the bytes in lower case; as many of them as there is room for.
pub(crate) fn write<'a>(bytes: &[u8], text: &'a mut [u8]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, digits) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    // It is ASCII.
    str::from_utf8(text).unwrap_or_default()
}

/// The bytes that are written so, in whichever case; `None` if these are not so many bytes.
pub(crate) fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (digits, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digits: &[[u8; 2]; N] = digits.try_into().ok()?;
    let mut wrong = 0;
    let bytes = digits.map(|[high, low]| {
        let (high, low) = (VALUES[usize::from(high)], VALUES[usize::from(low)]);
        wrong |= high | low;
        high << 4 | low & 15
    });
    (wrong & NONE == 0).then_some(bytes)
}

/// Of a byte that is no digit.
const NONE: u8 = 0x80;

/// The value of each digit.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 10 {
        values[(b'0' + value) as usize] = value;
        value += 1;
    }
    while value < 16 {
        values[(b'a' + value - 10) as usize] = value;
        values[(b'A' + value - 10) as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        for byte in 0..=u8::MAX {
            let bytes = [byte, 0xa5];
            let mut text = [0; 4];
            let text = write(&bytes, &mut text);
            assert_eq!(text, format!("{byte:02x}a5"));
            assert_eq!(read(text), Some(bytes));
            assert_eq!(read(&text.to_uppercase()), Some(bytes));
        }
    }

    #[test]
    fn nothing_else_is_read() {
        assert_eq!(read("0g"), None::<[u8; 1]>);
        assert_eq!(read("/0"), None::<[u8; 1]>);
        for wrong in ["", "0", "000", "0000", "é"] {
            assert_eq!(read(wrong), None::<[u8; 1]>, "{wrong}");
        }
    }
}
