"""Makes the outgoing calls: the only place that opens sockets to addresses that users chose."""

from scheduling.dispatch.curl_dispatcher import CurlDispatcher
from scheduling.dispatch.seam import Dispatcher

__all__ = ["CurlDispatcher", "Dispatcher"]
