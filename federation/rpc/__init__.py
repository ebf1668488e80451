"""What stands in front of every gRPC method: who may call, how much a message may hold, how long a call may last."""
