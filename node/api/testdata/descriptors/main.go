// Command descriptors prints what etcd's API is, one fact a line, sorted: every message, field, enum, value,
// service and method of the protocol files that Quorate serves. The Rust test tests/descriptors.rs prints the same
// from Quorate's own files and compares. README.md tells how to refresh the committed output.
package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// files are taken by one of their messages, because the paths under which they are registered are etcd's affair.
var files = []protoreflect.FileDescriptor{
	(&authpb.User{}).ProtoReflect().Descriptor().ParentFile(),
	(&etcdserverpb.RangeRequest{}).ProtoReflect().Descriptor().ParentFile(),
	(&mvccpb.KeyValue{}).ProtoReflect().Descriptor().ParentFile(),
	(&v3electionpb.LeaderKey{}).ProtoReflect().Descriptor().ParentFile(),
	(&v3lockpb.LockRequest{}).ProtoReflect().Descriptor().ParentFile(),
	(&healthpb.HealthCheckRequest{}).ProtoReflect().Descriptor().ParentFile(),
}

// facts collects the lines.
type facts []string

func (f *facts) add(format string, args ...any) {
	*f = append(*f, fmt.Sprintf(format, args...))
}

func (f *facts) file(file protoreflect.FileDescriptor) {
	f.add("package %s %s", file.Package(), file.Syntax())
	f.enums(file.Enums())
	f.messages(file.Messages())
	services := file.Services()
	for i := range services.Len() {
		f.service(services.Get(i))
	}
}

func (f *facts) messages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		suffix := ""
		if message.IsMapEntry() {
			suffix = " map_entry"
		}
		f.add("message %s%s", message.FullName(), suffix)
		f.enums(message.Enums())
		f.messages(message.Messages())
		fields := message.Fields()
		for j := range fields.Len() {
			f.field(fields.Get(j))
		}
	}
}

func (f *facts) field(field protoreflect.FieldDescriptor) {
	kind := field.Kind().String()
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		kind += " " + string(field.Message().FullName())
	case protoreflect.EnumKind:
		kind += " " + string(field.Enum().FullName())
	}
	label := "singular"
	oneof := field.ContainingOneof()
	switch {
	case field.Cardinality() == protoreflect.Repeated:
		label = "repeated"
	case field.Cardinality() == protoreflect.Required:
		label = "required"
	case field.HasOptionalKeyword():
		label = "optional"
	case oneof != nil:
		label = "oneof " + string(oneof.Name())
	}
	f.add("field %s.%s %d %s %s", field.Parent().FullName(), field.Name(), field.Number(), kind, label)
}

func (f *facts) enums(enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		f.add("enum %s", enum.FullName())
		values := enum.Values()
		for j := range values.Len() {
			value := values.Get(j)
			f.add("value %s.%s %d", enum.FullName(), value.Name(), value.Number())
		}
	}
}

func (f *facts) service(service protoreflect.ServiceDescriptor) {
	f.add("service %s", service.FullName())
	methods := service.Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		f.add("rpc %s %s returns %s", method.FullName(),
			shape(method.IsStreamingClient(), method.Input()), shape(method.IsStreamingServer(), method.Output()))
	}
}

func shape(streaming bool, message protoreflect.MessageDescriptor) string {
	if streaming {
		return "stream " + string(message.FullName())
	}
	return string(message.FullName())
}

func main() {
	var all facts
	for _, file := range files {
		all.file(file)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, strings.Join(all, "\n"))
}
