//! What is refused before it is proposed (etcd `server/etcdserver/api/v3rpc/key.go`).

use std::collections::BTreeSet;

use bytes::Bytes;

use quorate_api::etcdserverpb::request_op::Request;
use quorate_api::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::api_error::{self, ApiError};

type Checked = Result<(), ApiError>;

/// A read.
pub(super) fn range(request: &RangeRequest) -> Checked {
    if request.key.is_empty() { Err(api_error::EMPTY_KEY) } else { Ok(()) }
}

/// A write.
pub(super) fn put(request: &PutRequest) -> Checked {
    match request {
        request if request.key.is_empty() => Err(api_error::EMPTY_KEY),
        request if request.ignore_value && !request.value.is_empty() => Err(api_error::VALUE_PROVIDED),
        request if request.ignore_lease && request.lease != 0 => Err(api_error::LEASE_PROVIDED),
        _ => Ok(()),
    }
}

/// A deletion.
pub(super) fn delete_range(request: &DeleteRangeRequest) -> Checked {
    if request.key.is_empty() { Err(api_error::EMPTY_KEY) } else { Ok(()) }
}

/// A transaction of at most `ops_max` operations over all levels of a path, that writes no key twice.
pub(super) fn txn(request: &TxnRequest, ops_max: usize) -> Checked {
    operations(request, ops_max)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn operations(request: &TxnRequest, ops_max: usize) -> Checked {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = ops_max.checked_sub(longest) else { return Err(api_error::TOO_MANY_OPS) };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(api_error::EMPTY_KEY);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => operations(request, left)?,
            // etcd treats an empty operation as a request without a key.
            None => return Err(api_error::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// Keys put and ranges deleted by one branch, with all that it may nest.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Writes {
    fn deletes_key(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|(from, end)| match end.as_ref() {
            b"" => from == key,
            b"\0" => from <= key,
            end => from <= key && key.as_ref() < end,
        })
    }

    fn put(&mut self, key: &Bytes) -> Checked {
        if self.deletes_key(key) || !self.puts.insert(key.clone()) {
            return Err(api_error::DUPLICATE_KEY);
        }
        Ok(())
    }
}

fn writes(operations: &[RequestOp]) -> Result<Writes, ApiError> {
    let mut all = Writes::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(request)) = &operation.request {
            all.deletes.push((request.key.clone(), request.range_end.clone()));
        }
    }
    for operation in operations {
        if let Some(Request::RequestTxn(request)) = &operation.request {
            let (then, otherwise) = (writes(&request.success)?, writes(&request.failure)?);
            for key in &then.puts {
                all.put(key)?;
            }
            // The branches exclude each other: a key may stand in both.
            for key in otherwise.puts.difference(&then.puts) {
                all.put(key)?;
            }
            all.deletes.extend(then.deletes.into_iter().chain(otherwise.deletes));
        }
    }
    for operation in operations {
        if let Some(Request::RequestPut(request)) = &operation.request {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}

/// Whether some branch stores a key: then a full store refuses it.
pub(super) fn txn_puts(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|operation| match &operation.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(request)) => txn_puts(request),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
    }

    fn delete(key: &'static str, end: &'static str) -> RequestOp {
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            ..Default::default()
        }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { success, failure, ..Default::default() }))
    }

    fn checked(success: Vec<RequestOp>) -> Checked {
        txn(&TxnRequest { success, ..Default::default() }, 3)
    }

    #[test]
    fn a_key_is_written_once() {
        assert_eq!(checked(vec![put("a"), put("a")]), Err(api_error::DUPLICATE_KEY));
        assert_eq!(checked(vec![put("b"), delete("a", "c")]), Err(api_error::DUPLICATE_KEY));
        assert_eq!(checked(vec![put("c"), delete("a", "c")]), Ok(()));
        assert_eq!(checked(vec![put("a"), nested(vec![put("a")], vec![])]), Err(api_error::DUPLICATE_KEY));
        assert_eq!(checked(vec![nested(vec![put("a")], vec![put("a")])]), Ok(()));
        assert_eq!(
            checked(vec![nested(vec![delete("a", "")], vec![]), put("a")]),
            Err(api_error::DUPLICATE_KEY)
        );
    }

    #[test]
    fn operations_are_counted_by_depth() {
        assert_eq!(checked(vec![put("a"), put("b"), put("c"), put("d")]), Err(api_error::TOO_MANY_OPS));
        assert_eq!(checked(vec![put("a"), nested(vec![put("b")], vec![])]), Ok(()));
        assert_eq!(
            checked(vec![put("a"), nested(vec![put("b"), put("c")], vec![])]),
            Err(api_error::TOO_MANY_OPS)
        );
        assert_eq!(checked(vec![put("")]), Err(api_error::EMPTY_KEY));
    }
}
