"""The routes under `/api/synthetic/`."""

from django.urls import path

from synthetic.views import EchoView, FlakyView, HealthView, SlowView

urlpatterns = [
    path("health", HealthView.as_view(), name="synthetic-health"),
    path("echo", EchoView.as_view(), name="synthetic-echo"),
    path("slow", SlowView.as_view(), name="synthetic-slow"),
    path("flaky", FlakyView.as_view(), name="synthetic-flaky"),
]
