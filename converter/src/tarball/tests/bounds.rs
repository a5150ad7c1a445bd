//! What an archive may ask to be kept in memory.

use super::*;

#[test]
fn extensions_are_bounded() {
    let error = entries(&[Block::new("x", b'x').size(1 << 30).bytes()]).unwrap_err();
    assert!(matches!(error, TarError::Corrupt { .. }), "{error}");
}

#[test]
fn global_records_are_bounded_together() {
    let value = vec![b'v'; 20 << 10];
    let headers = ["a", "b", "c", "d"].map(|key| pax(b'g', &[(key, &value)]));
    assert_eq!(entries(&headers[..3]).unwrap().len(), 0);
    // The same keys again take no more room.
    let again: Vec<_> = headers[..3].iter().cycle().take(9).cloned().collect();
    assert!(entries(&again).is_ok());
    let error = entries(&headers).unwrap_err();
    assert!(error.to_string().contains("global extended headers"), "{error}");
}
