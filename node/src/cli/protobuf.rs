//! Writing protocol buffers, of which other programs' file formats are made
//! (<https://protobuf.dev/programming-guides/encoding/>). The few messages that Kith writes are
//! spelled out where they are needed, so no schema is compiled.

/// Wire type of a variable-length integer.
const VARINT: u64 = 0;
/// Wire type of bytes, texts and messages.
const BYTES: u64 = 2;

/// Appends a number: seven bits a byte, the least first, and a bit that says whether more follow.
pub(super) fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Appends a field that holds a number.
pub(super) fn number_field(message: &mut Vec<u8>, field: u64, value: u64) {
    varint(message, field << 3 | VARINT);
    varint(message, value);
}

/// Appends a field that holds bytes, a text or another message.
pub(super) fn bytes_field(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(message, field << 3 | BYTES);
    varint(message, content.len() as u64);
    message.extend(content);
}
