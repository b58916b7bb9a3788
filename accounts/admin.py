"""The console's pages of people, for operators, and of API keys, for everybody."""

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.password_validation import validate_password
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from accounts.confirmation import confirmation, is_confirmed
from accounts.models import ApiKey, Scope, User
from accounts.ownership import OwnedModelAdmin
from accounts.services import issue_api_key, revoke_api_key


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A name and what the key may do."""

    name = forms.CharField(max_length=255, widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True}))
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices,
        initial=[Scope.READ, Scope.WRITE],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Write includes read.",
    )
    expires_at = forms.DateField(
        required=False,
        label="Expires on",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        help_text="At the begin of that day, UTC. Empty: never.",
    )

    class Meta:
        model = ApiKey
        fields = ("name",)


class ApiKeyAdmin(OwnedModelAdmin):
    """API keys of the person: made here, shown once, revoked here."""

    form = ApiKeyForm
    list_display = ("name", "prefix", "scope_words", "state", "created_at", "last_used_at", "expires_at")
    list_display_links = None
    ordering = ("-created_at",)
    actions = ("revoke",)
    search_fields = ("name", "prefix")
    fieldsets = ((None, {"fields": ("name", "scopes", "expires_at")}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Everybody may make keys."""
        return self.owns(request, None)

    def get_form(self, request: HttpRequest, obj: Any | None = None, change: bool = False, **kwargs: Any) -> Any:
        """The form as declared."""
        return self.form

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> ApiKey:
        """Issues the key; its text is kept only until the answer is written."""
        user: Any = request.user
        day = form.cleaned_data["expires_at"]
        key, text = issue_api_key(
            owner=user,
            name=form.cleaned_data["name"],
            scopes=form.cleaned_data["scopes"],
            expires_at=datetime.combine(day, time(), tzinfo=UTC) if day else None,
        )
        request.new_api_key = text  # type: ignore[attr-defined]
        return key

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        """Nothing: the key is issued."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the key is issued."""

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The page that shows the key, this once."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new API key",
            "opts": self.opts,
            "key": obj,
            "text": request.new_api_key,  # type: ignore[attr-defined]
        }
        response = TemplateResponse(request, "admin/accounts/apikey/created.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, queryset: models.QuerySet[ApiKey]) -> HttpResponse | None:
        """Ends keys at once and for good; asks first."""
        keys = list(queryset.filter(revoked_at__isnull=True))
        if keys and not is_confirmed(request):
            question = "Revoke these keys? What uses them is refused from then on."
            return confirmation(self, request, keys, name="revoke", label="Revoke", question=question)
        for key in keys:
            revoke_api_key(key_id=key.pk)
            self.log_change(request, key, "revoked.")
        self.message_user(request, f"{len(keys)} revoked.", messages.SUCCESS)
        return None

    @admin.display(description="May")
    def scope_words(self, key: ApiKey) -> str:
        """The scopes."""
        return ", ".join(key.scopes)

    @admin.display(description="Status")
    def state(self, key: ApiKey) -> SafeString:
        """Whether it still opens anything."""
        if key.revoked_at is not None:
            return SafeString('<span class="cc-badge cc-calm">revoked</span>')
        if key.expires_at is not None and key.expires_at <= timezone.now():
            return SafeString('<span class="cc-badge cc-calm">expired</span>')
        return SafeString('<span class="cc-badge cc-good">live</span>')


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
    """A person. Their password is set here once; afterwards they change it themselves."""

    email = forms.EmailField(max_length=254, widget=UnfoldAdminEmailInputWidget, label="E-mail address")
    name = forms.CharField(max_length=255, required=False, widget=UnfoldAdminTextInputWidget)
    is_active = forms.BooleanField(required=False, initial=True, widget=UnfoldBooleanSwitchWidget, label="May sign in")
    is_superuser = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        label="Operator",
        help_text="Sees everybody's jobs and these pages.",
    )
    password = forms.CharField(
        required=False,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Empty: unchanged; for a new account, sign-in through a provider or a reset by mail only.",
    )

    class Meta:
        model = User
        fields = ("email", "name", "is_active", "is_superuser")

    def clean_email(self) -> str:
        """In lower case, as the table wants it."""
        return str(self.cleaned_data["email"]).lower()

    def clean_password(self) -> str:
        """A password of sufficient strength, or none."""
        password = str(self.cleaned_data["password"])
        if password:
            validate_password(password, self.instance)
        return password


class UserAdmin(OwnedModelAdmin):
    """People, for operators. An account is closed by taking away its sign-in, never deleted: its jobs name it."""

    form = UserForm
    operators_only = True
    owner_path = "pk"
    list_display = ("email", "name", "role", "is_active", "created_at", "last_login")
    list_filter = ("is_active", "is_superuser")
    search_fields = ("email", "name")
    ordering = ("email",)
    fieldsets = ((None, {"fields": ("email", "name", "password", "is_active", "is_superuser")}),)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Operators."""
        return self.owns(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Any | None = None) -> bool:
        """Operators."""
        return self.owns(request, None)

    def get_form(self, request: HttpRequest, obj: Any | None = None, change: bool = False, **kwargs: Any) -> Any:
        """The form as declared."""
        return self.form

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Saves the person; a given password ends their other sessions."""
        password = form.cleaned_data["password"]
        if password or not change:
            obj.set_password(password or None)
        obj.save()

    @admin.display(description="Role")
    def role(self, user: User) -> str:
        """Operator or owner."""
        return "operator" if user.is_superuser else "owner"
