//! Arguments from Python, and mappings for it.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::wire::WireExtension;

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

/// A `Mapping[int, bytes]` in its order.
pub fn extension_map(value: &Bound<'_, PyAny>) -> PyResult<Vec<WireExtension>> {
    let dict = value
        .py()
        .get_type::<PyDict>()
        .call1((value,))?
        .cast_into::<PyDict>()?;
    dict.iter()
        .map(|(kind, data)| {
            Ok(WireExtension {
                kind: kind.extract()?,
                data: data.extract::<Vec<u8>>()?.into(),
            })
        })
        .collect()
}

/// Extensions in the order of their list, which has no type twice; a `dict[int, bytes]` in Python.
#[derive(Clone)]
pub struct ExtensionList(pub Vec<WireExtension>);

impl<'py> IntoPyObject<'py> for &ExtensionList {
    type Target = PyDict;
    type Output = Bound<'py, PyDict>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        let dict = PyDict::new(py);
        for extension in &self.0 {
            dict.set_item(extension.kind, PyBytes::new(py, extension.data.as_slice()))?;
        }
        Ok(dict)
    }
}

/// DER certificates, the leaf's first; a `tuple[bytes, ...]` in Python.
#[derive(Clone)]
pub struct Certificates(pub Vec<Vec<u8>>);

impl<'py> IntoPyObject<'py> for &Certificates {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        PyTuple::new(py, self.0.iter().map(|one| PyBytes::new(py, one)))
    }
}

/// External senders: a raw signature public key and the content of a basic credential each.
pub fn sender_list(senders: Vec<(PyBackedBytes, PyBackedBytes)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    senders
        .iter()
        .map(|(key, identity)| (key.to_vec(), identity.to_vec()))
        .collect()
}
