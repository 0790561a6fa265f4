//! Between the API's messages and the state machine's types.

use quorate_api::etcdserverpb::compare::{CompareTarget, TargetUnion};
use quorate_api::etcdserverpb::{self as pb, request_op, response_op};
use quorate_api::mvccpb;
use quorate_state::event::{Event, EventKind, KeyValue};
use quorate_state::request::{Compare, DeleteRange, Operation, OperationKind, Put, Range, Target, Txn};
use quorate_state::response::{Body, RangeResponse, Response};

/// A read.
pub(super) fn range(request: pb::RangeRequest) -> Range {
    Range {
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        sort_order: request.sort_order,
        sort_target: request.sort_target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// A write.
pub(super) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(super) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
}

/// A transaction.
pub(super) fn txn(request: pb::TxnRequest) -> Txn {
    let operations = |all: Vec<pb::RequestOp>| all.into_iter().map(operation).collect();
    Txn {
        compares: request.compare.into_iter().map(compare).collect(),
        success: operations(request.success),
        failure: operations(request.failure),
    }
}

fn operation(request: pb::RequestOp) -> Operation {
    let kind = request.request.map(|request| match request {
        request_op::Request::RequestRange(request) => OperationKind::Range(range(request)),
        request_op::Request::RequestPut(request) => OperationKind::Put(put(request)),
        request_op::Request::RequestDeleteRange(request) => OperationKind::DeleteRange(delete_range(request)),
        request_op::Request::RequestTxn(request) => OperationKind::Txn(txn(request)),
    });
    Operation { kind }
}

/// The target decides; a union that does not fit it, or is absent, counts as zero, as protobuf's getters have it.
fn compare(request: pb::Compare) -> Compare {
    let target = match (request.target(), request.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(version))) => Target::Version(version),
        (CompareTarget::Version, _) => Target::Version(0),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(revision))) => Target::Create(revision),
        (CompareTarget::Create, _) => Target::Create(0),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(revision))) => Target::Mod(revision),
        (CompareTarget::Mod, _) => Target::Mod(0),
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => Target::Value(value),
        (CompareTarget::Value, _) => Target::Value(bytes::Bytes::new()),
        (CompareTarget::Lease, Some(TargetUnion::Lease(lease))) => Target::Lease(lease),
        (CompareTarget::Lease, _) => Target::Lease(0),
    };
    Compare { relation: request.result, key: request.key, range_end: request.range_end, target: Some(target) }
}

/// A key.
pub(super) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

/// An event, with what was before if that is wanted.
pub(super) fn event(event: &Event, with_previous: bool) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(event.kv.clone())),
        prev_kv: event.prev_kv.clone().filter(|_| with_previous).map(key_value),
    }
}

/// The answer to a read.
pub(super) fn range_response(
    header: Option<pb::ResponseHeader>,
    response: RangeResponse,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

/// The answers of a transaction's operations; each carries its revision alone, as etcd's do.
pub(super) fn responses(all: Vec<Response>) -> Vec<pb::ResponseOp> {
    all.into_iter().map(|response| pb::ResponseOp { response: one(response) }).collect()
}

fn one(response: Response) -> Option<response_op::Response> {
    let header = Some(pb::ResponseHeader { revision: response.revision, ..Default::default() });
    match response.body {
        Body::Put { prev_kv } => Some(response_op::Response::ResponsePut(pb::PutResponse {
            header,
            prev_kv: prev_kv.map(key_value),
        })),
        Body::DeleteRange { deleted, prev_kvs } => {
            let prev_kvs = prev_kvs.into_iter().map(key_value).collect();
            Some(response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                header,
                deleted,
                prev_kvs,
            }))
        }
        Body::Range(range) => Some(response_op::Response::ResponseRange(range_response(header, range))),
        Body::Txn(txn) => Some(response_op::Response::ResponseTxn(pb::TxnResponse {
            header,
            succeeded: txn.succeeded,
            responses: responses(txn.responses),
        })),
        Body::Compact | Body::LeaseGrant | Body::LeaseRevoke | Body::Alarm(_) | Body::RaiseLevel => None,
    }
}
