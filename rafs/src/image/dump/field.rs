//! Fields of structures as text that says their value exactly.

use std::fmt::{self, Write};

use zerocopy::little_endian::{U16, U32, U64};

/// A value of a field.
pub(super) trait Field {
    /// Writes it so that no other value is written the same.
    fn show(&self, out: &mut impl Write) -> fmt::Result;
}

impl Field for u8 {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Field for U16 {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Field for U32 {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl Field for U64 {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// Zeros as `0`, printable text in quotes, anything else in hex.
impl<const LEN: usize> Field for [u8; LEN] {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        if self.iter().all(|byte| *byte == 0) {
            return out.write_str("0");
        }
        if let (true, Ok(text)) = (self.iter().all(u8::is_ascii_alphanumeric), str::from_utf8(self)) {
            return write!(out, "\"{text}\"");
        }
        hex(self, out)
    }
}

/// A number whose bits have meanings.
pub(super) struct Bits(pub(super) u64);

impl Field for Bits {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{:#x}", self.0)
    }
}

/// A mode, in octal.
pub(super) struct Octal(pub(super) u16);

impl Field for Octal {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{:#o}", self.0)
    }
}

/// Seconds, which may be negative.
pub(super) struct Signed(pub(super) u64);

impl Field for Signed {
    fn show(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{}", self.0.cast_signed())
    }
}

pub(super) fn hex(bytes: &[u8], out: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Names and values of a structure, with `sep` before each.
macro_rules! fields {
    ($out:expr, $sep:expr, $($name:ident = $value:expr),+ $(,)?) => {{
        $(
            write!($out, "{}{}=", $sep, stringify!($name))?;
            $crate::image::dump::field::Field::show(&$value, $out)?;
        )+
        writeln!($out)
    }};
}
pub(super) use fields;
