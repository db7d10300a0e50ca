//! Shorter snapshots. OpenMLS stores JSON, and most of it are byte strings written as lists of numbers, four
//! characters a byte. Each such list becomes a marker, its length and the bytes; everything else stays as it is.

/// JSON text never holds this byte.
const MARKER: u8 = 0;
/// No list is worth the marker below this.
const SHORTEST: usize = 2;

/// The inverse of [`expand`]; None if `text` is not text this can be undone for.
pub fn compact(text: &[u8]) -> Option<Vec<u8>> {
    if text.contains(&MARKER) {
        return None;
    }
    let mut result = Vec::with_capacity(text.len() / 3);
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match byte_list(rest) {
            Some((bytes, after)) if bytes.len() >= SHORTEST => {
                result.push(MARKER);
                result.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_be_bytes());
                result.extend_from_slice(&bytes);
                rest = after;
            }
            _ => {
                result.push(*first);
                rest = tail;
            }
        }
    }
    Some(result)
}

pub fn expand(data: &[u8]) -> Option<Vec<u8>> {
    let mut result = Vec::with_capacity(data.len() * 3);
    let mut rest = data;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != MARKER {
            result.push(*first);
            continue;
        }
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (bytes, tail) = tail.split_at_checked(length)?;
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        result.push(b'[');
        result.extend_from_slice(numbers.join(",").as_bytes());
        result.push(b']');
        rest = tail;
    }
    Some(result)
}

/// A list of bytes at the beginning of `text`, in the one spelling that `expand` writes, and what follows it.
fn byte_list(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"[")?;
    let mut bytes = Vec::new();
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, tail) = rest.split_at(digits);
        if digits > 1 && number[0] == b'0' {
            return None;
        }
        bytes.push(std::str::from_utf8(number).ok()?.parse().ok()?);
        let (separator, tail) = tail.split_first()?;
        rest = tail;
        match separator {
            b',' => {}
            b']' => return Some((bytes, rest)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{compact, expand};

    #[test]
    fn what_is_compacted_expands_to_the_same_bytes() {
        for text in [
            &br#"{"a":[1,2,3],"b":[],"c":[7],"d":[256,1],"e":[01,2],"f":[1, 2],"g":"[1,2]"}"#[..],
            br#"[[0,255],[[9,10,11],"x"],[-1,2],[1.5,2],[1,2"#,
            b"[",
            b"[,",
            b"[1,",
            b"",
        ] {
            let short = compact(text).unwrap_or_default();
            assert_eq!(expand(&short).as_deref(), Some(text));
        }
    }

    #[test]
    fn lists_of_bytes_take_one_byte_each() {
        let text = format!("[{}]", ["200"; 100].join(","));
        assert_eq!(compact(text.as_bytes()).map(|short| short.len()), Some(105));
    }

    #[test]
    fn what_holds_the_marker_is_left_alone_and_damage_is_noticed() {
        assert_eq!(compact(b"a\0b"), None);
        assert_eq!(expand(b"\0\0\0\0\x05abc"), None);
        assert_eq!(expand(b"\0\0\0"), None);
    }
}
