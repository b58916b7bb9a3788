"""Every address of the site."""

from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from accounts.views import SetupView
from cronicorn.admin import site
from cronicorn.health import health
from jobs.api.refusals import not_found

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/health", health),
    path("api/synthetic/", include("synthetic.urls")),
    path("api/", include("jobs.api.urls")),
    path("api/", include("planner.api.urls")),
    re_path(r"^api(?:/[\s\S]*)?\Z", csrf_exempt(not_found)),
    path("accounts/setup/<str:token>/", SetupView.as_view(), name="setup"),
    path("accounts/", include("allauth.urls")),
    path("", site.urls),
]

handler400 = "cronicorn.error_pages.bad_request"
handler403 = "cronicorn.error_pages.permission_denied"
handler404 = "cronicorn.error_pages.page_not_found"
handler500 = "cronicorn.error_pages.server_error"
