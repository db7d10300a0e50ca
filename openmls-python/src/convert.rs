//! Arguments from Python.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;

/// A `Mapping[int, bytes]`, or nothing.
pub fn component_map(value: Option<&Bound<'_, PyAny>>) -> PyResult<BTreeMap<u16, Vec<u8>>> {
    let Some(value) = value else {
        return Ok(BTreeMap::new());
    };
    let dict = match value.cast::<PyDict>() {
        Ok(dict) => dict.clone(),
        Err(_) => value
            .py()
            .get_type::<PyDict>()
            .call1((value,))?
            .cast_into::<PyDict>()?,
    };
    dict.iter()
        .map(|(key, data)| Ok((key.extract()?, data.extract()?)))
        .collect()
}

/// External senders: a raw signature public key and the content of a basic credential each.
pub fn sender_list(senders: Vec<(PyBackedBytes, PyBackedBytes)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    senders
        .iter()
        .map(|(key, identity)| (key.to_vec(), identity.to_vec()))
        .collect()
}
