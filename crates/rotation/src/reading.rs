//! Parts of a reading.

use secrets::{Cause, Reading, Reference, SecretString, StoreError};

/// The field of a reading that a reference means.
pub(crate) fn field(reading: &Reading, reference: &Reference) -> Result<SecretString, StoreError> {
    let field = reference.field();
    reading.fields.get(field).cloned().ok_or_else(|| StoreError {
        store: reference.store().to_owned(),
        cause: Cause::Absent(format!("field `{field}` at `{}`", reference.path())),
    })
}

/// Whether one reading answers both.
pub(crate) fn same_place(one: &Reference, other: &Reference) -> bool {
    one.store() == other.store() && one.path() == other.path()
}
