// Stand-in for fwpuclnt.dll, the filtering engine, of which Wine has nothing but names. It
// reads each filter as Microsoft's headers have it, and takes it only if that is what the
// filter's name says.
#include <initguid.h>
#include "computer.h"

#define PATH L"\\device\\harddiskvolume1"
#define SESSION_DYNAMIC 1
#define NOTIFY_ON_DELETE 2

// handle is an open engine, and its transaction's copy of the filters.
struct handle {
	BOOL changing;
	struct engine copy;
};

static const struct layer {
	GUID key;
	const char *name;
} layers[] = {
	{{0xc38d57d1, 0x05a7, 0x4c33, {0x90, 0x4f, 0x7f, 0xbc, 0xee, 0xe6, 0x0e, 0x82}}, "connect4"},
	{{0x4a72393b, 0x319f, 0x44bc, {0x84, 0xc3, 0xba, 0x54, 0xdc, 0xb3, 0xb6, 0xb4}}, "connect6"},
	{{0xe1cd9fe7, 0xf4b5, 0x4273, {0x96, 0xc0, 0x59, 0x2e, 0x48, 0x7b, 0x86, 0x50}}, "accept4"},
	{{0xa3b42c97, 0x9f04, 0x4672, {0xb8, 0x7e, 0xce, 0xe9, 0xc4, 0x83, 0x25, 0x7f}}, "accept6"},
	{{0xa82acc24, 0x4ee1, 0x4ee1, {0xb4, 0x65, 0xfd, 0x1d, 0x25, 0xcb, 0x10, 0xa4}}, "forward4"},
	{{0x7b964818, 0x19c7, 0x493a, {0xb7, 0x1f, 0x83, 0x2c, 0x36, 0x84, 0xd2, 0x8c}}, "forward6"},
	{},
};

static const struct field {
	GUID key;
	const char *name;
	const char *otherwise; // in the layers of what is passed on, or of ICMP
} fields[] = {
	{{0xd78e1e87, 0x8644, 0x4ea5, {0x94, 0x37, 0xd8, 0x09, 0xec, 0xef, 0xc9, 0x71}}, "program"},
	{{0x632ce23b, 0x5167, 0x435c, {0x86, 0xd7, 0xe9, 0x03, 0x68, 0x4a, 0xa8, 0x0c}}, "loopback"},
	{{0x4cd62a49, 0x59c3, 0x4969, {0xb7, 0xf3, 0xbd, 0xa5, 0xd3, 0x28, 0x90, 0xa4}}, "interface", "arrives-by"},
	{{0x1076b8a5, 0x6323, 0x4c5e, {0x98, 0x10, 0xe8, 0xd3, 0xfc, 0x9e, 0x61, 0x36}}, "leaves-by"},
	{{0xb235ae9a, 0x1d64, 0x49b8, {0xa4, 0x4c, 0x5f, 0xf3, 0xd9, 0x09, 0x50, 0x45}}, "remote"},
	{{0x2d79133b, 0xb390, 0x45c6, {0x86, 0x99, 0xac, 0xac, 0xea, 0xaf, 0xed, 0x33}}, "to"},
	{{0x3971ef2b, 0x623e, 0x4f9a, {0x8c, 0xb1, 0x6e, 0x79, 0xb8, 0x06, 0xb9, 0xa7}}, "protocol"},
	{{0x0c1ba1af, 0x5765, 0x453f, {0xaf, 0x22, 0xa8, 0xf7, 0x91, 0xac, 0x77, 0x5b}}, "local-port", "icmp-type"},
	{{0xc35a604d, 0xd22b, 0x4e1a, {0x91, 0xb4, 0x68, 0xf6, 0x74, 0xee, 0x67, 0x4b}}, "remote-port"},
	{},
};

// add writes behind what stands in text.
static void add(char *text, const char *format, ...)
{
	size_t size = strlen(text);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text + size, NAME - size, format, arguments);
	va_end(arguments);
}

static void add_value(char *text, const FWPM_FILTER_CONDITION0 *c)
{
	const FWP_CONDITION_VALUE0 *v = &c->conditionValue;
	char address[64];
	int bits = 0;
	switch ((int)v->type) {
	case FWP_UINT8:
		add(text, " %u", v->uint8);
		return;
	case FWP_UINT16:
		add(text, " %u", v->uint16);
		return;
	case FWP_UINT32: // of flags, the one that stands for loopback
		if (c->matchType != FWP_MATCH_FLAGS_ALL_SET || v->uint32 != 1)
			add(text, " match %d of %x", c->matchType, v->uint32);
		return;
	case FWP_UINT64:
		add(text, " %llu", *v->uint64);
		return;
	case FWP_V4_ADDR_MASK:
		for (UINT32 mask = v->v4AddrMask->mask; mask; mask <<= 1)
			bits++;
		UINT32 a = v->v4AddrMask->addr;
		add(text, " %u.%u.%u.%u/%d", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255, bits);
		return;
	case FWP_V6_ADDR_MASK:
		RtlIpv6AddressToStringA((struct in6_addr *)v->v6AddrMask->addr, address);
		add(text, " %s/%u", address, v->v6AddrMask->prefixLength);
		return;
	case FWP_BYTE_BLOB_TYPE:
		add(text, " C:%ls", (WCHAR *)v->byteBlob->data + wcslen(PATH));
		return;
	}
	add(text, " type %d", v->type);
}

// describe tells of a filter what its name should say.
static void describe(const FWPM_FILTER0 *f, char *text)
{
	const struct layer *layer = layers;
	while (layer->name && !IsEqualGUID(&layer->key, &f->layerKey))
		layer++;
	BOOL passed_on = layer->name && !strncmp(layer->name, "forward", 7), icmp = FALSE;
	add(text, "%s %u %s", layer->name ? layer->name : "no layer", f->weight.type == FWP_UINT8 ? f->weight.uint8 : 99,
	    f->action.type == FWP_ACTION_PERMIT ? "permit" : f->action.type == FWP_ACTION_BLOCK ? "block" : "no action");
	for (UINT32 i = 0; i < f->numFilterConditions; i++) {
		const FWPM_FILTER_CONDITION0 *c = &f->filterCondition[i];
		const struct field *field = fields;
		while (field->name && !IsEqualGUID(&field->key, &c->fieldKey))
			field++;
		const char *name = field->name ? field->name : "no field";
		if (field->otherwise && (passed_on || icmp))
			name = field->otherwise;
		icmp |= name == fields[6].name && c->conditionValue.uint8 == IPPROTO_ICMPV6;
		add(text, " %s", name);
		add_value(text, c);
	}
	if (f->flags)
		add(text, " flags %x", f->flags);
}

EXPORT DWORD WINAPI FwpmEngineOpen0(const WCHAR *server, UINT32 service, void *identity, const FWPM_SESSION0 *session, HANDLE *engine)
{
	if (session->flags & SESSION_DYNAMIC)
		note("filters: the session is dynamic");
	*engine = calloc(1, sizeof(struct handle));
	return 0;
}

EXPORT DWORD WINAPI FwpmEngineClose0(struct handle *h)
{
	free(h);
	return 0;
}

EXPORT DWORD WINAPI FwpmTransactionBegin0(struct handle *h, UINT32 flags)
{
	h->copy = enter()->engine;
	h->changing = TRUE;
	leave();
	return 0;
}

static BOOL has(const struct engine *e, const WCHAR *name)
{
	for (unsigned i = 0; i < e->filters; i++)
		if (!wcscmp(e->filter[i].name, name))
			return TRUE;
	return FALSE;
}

EXPORT DWORD WINAPI FwpmTransactionCommit0(struct handle *h)
{
	struct engine *e = &enter()->engine;
	for (unsigned i = 0; i < e->filters; i++)
		if (!has(&h->copy, e->filter[i].name))
			note("filter - %ls", e->filter[i].name);
	for (unsigned i = 0; i < h->copy.filters; i++)
		if (!has(e, h->copy.filter[i].name))
			note("filter + %ls", h->copy.filter[i].name);
	if (e->provider != h->copy.provider || e->sublayer != h->copy.sublayer)
		note("filters: provider %c sublayer %c", h->copy.provider ? '+' : '-', h->copy.sublayer ? '+' : '-');
	*e = h->copy;
	h->changing = FALSE;
	leave();
	return 0;
}

EXPORT DWORD WINAPI FwpmTransactionAbort0(struct handle *h)
{
	note("filters: given up");
	h->changing = FALSE;
	return 0;
}

EXPORT DWORD WINAPI FwpmProviderAdd0(struct handle *h, const FWPM_PROVIDER0 *p, void *sd)
{
	if (!h->changing || p->flags)
		return ERROR_INVALID_PARAMETER;
	if (h->copy.provider)
		return FWP_E_ALREADY_EXISTS;
	h->copy.provider = TRUE;
	h->copy.provider_key = p->providerKey;
	return 0;
}

EXPORT DWORD WINAPI FwpmSubLayerAdd0(struct handle *h, const FWPM_SUBLAYER0 *s, void *sd)
{
	if (!h->changing || s->flags || s->weight != 0xffff)
		return ERROR_INVALID_PARAMETER;
	if (!h->copy.provider || !IsEqualGUID(s->providerKey, &h->copy.provider_key))
		return FWP_E_PROVIDER_NOT_FOUND;
	if (h->copy.sublayer)
		return FWP_E_ALREADY_EXISTS;
	h->copy.sublayer = TRUE;
	h->copy.sublayer_key = s->subLayerKey;
	return 0;
}

EXPORT DWORD WINAPI FwpmProviderDeleteByKey0(struct handle *h, const GUID *key)
{
	if (!h->copy.provider || !IsEqualGUID(key, &h->copy.provider_key))
		return FWP_E_PROVIDER_NOT_FOUND;
	if (!h->changing || h->copy.sublayer || h->copy.filters)
		return FWP_E_IN_USE;
	h->copy.provider = FALSE;
	return 0;
}

EXPORT DWORD WINAPI FwpmSubLayerDeleteByKey0(struct handle *h, const GUID *key)
{
	if (!h->copy.sublayer || !IsEqualGUID(key, &h->copy.sublayer_key))
		return FWP_E_SUBLAYER_NOT_FOUND;
	if (!h->changing || h->copy.filters)
		return FWP_E_IN_USE;
	h->copy.sublayer = FALSE;
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterAdd0(struct handle *h, const FWPM_FILTER0 *f, void *sd, UINT64 *id)
{
	struct engine *e = &h->copy;
	char text[NAME] = "";
	WCHAR wide[NAME];
	if (!h->changing || e->filters == ROWS)
		return ERROR_INVALID_PARAMETER;
	if (!e->provider || !f->providerKey || !IsEqualGUID(f->providerKey, &e->provider_key))
		return FWP_E_PROVIDER_NOT_FOUND;
	if (!e->sublayer || !IsEqualGUID(&f->subLayerKey, &e->sublayer_key))
		return FWP_E_SUBLAYER_NOT_FOUND;
	describe(f, text);
	_snwprintf(wide, NAME, L"%hs", text);
	if (_wcsicmp(wide, f->displayData.name)) {
		note("filter %ls is in truth %s", f->displayData.name, text);
		return ERROR_INVALID_PARAMETER;
	}
	struct filter *new = &e->filter[e->filters++];
	new->id = *id = ++e->last;
	new->provider = *f->providerKey;
	wcsncpy(new->name, f->displayData.name, NAME - 1);
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterDeleteById0(struct handle *h, UINT64 id)
{
	struct engine *e = &h->copy;
	for (unsigned i = 0; h->changing && i < e->filters; i++)
		if (e->filter[i].id == id) {
			e->filter[i] = e->filter[--e->filters];
			e->removals++;
			return 0;
		}
	return FWP_E_FILTER_NOT_FOUND;
}

// A subscription is told of what any process removes.
struct subscription {
	void (CALLBACK *callback)(void *context, const FWPM_FILTER_CHANGE0 *change);
	void *context;
	unsigned seen;
	volatile LONG ended;
	HANDLE thread;
};

static unsigned removals(void)
{
	unsigned n = enter()->engine.removals;
	leave();
	return n;
}

static DWORD WINAPI tell(void *argument)
{
	struct subscription *s = argument;
	FWPM_FILTER_CHANGE0 change = {.changeType = FWPM_CHANGE_DELETE};
	for (; !s->ended; Sleep(100)) {
		unsigned now = removals();
		if (now != s->seen)
			s->callback(s->context, &change);
		s->seen = now;
	}
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterSubscribeChanges0(struct handle *h, const FWPM_FILTER_SUBSCRIPTION0 *wanted, void *callback, void *context, struct subscription **subscription)
{
	if (wanted->enumTemplate || wanted->flags != NOTIFY_ON_DELETE)
		return ERROR_INVALID_PARAMETER;
	struct subscription *s = calloc(1, sizeof *s);
	*s = (struct subscription){.callback = callback, .context = context, .seen = removals()};
	s->thread = CreateThread(NULL, 0, tell, s, 0, NULL);
	*subscription = s;
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterUnsubscribeChanges0(struct handle *h, struct subscription *s)
{
	InterlockedExchange(&s->ended, 1);
	WaitForSingleObject(s->thread, INFINITE);
	CloseHandle(s->thread);
	free(s);
	return 0;
}

// RemoveFilters is what another program does: rundll32 fwpuclnt.dll,RemoveFilters
EXPORT void CALLBACK RemoveFilters(HWND window, HINSTANCE instance, char *arguments, int show)
{
	struct engine *e = &enter()->engine;
	note("filters: another program removes all");
	e->removals += e->filters;
	e->filters = 0;
	leave();
}

// A list is how far it has been read.
EXPORT DWORD WINAPI FwpmFilterCreateEnumHandle0(struct handle *h, const void *template, unsigned **list)
{
	*list = calloc(1, sizeof **list);
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterDestroyEnumHandle0(struct handle *h, unsigned *list)
{
	free(list);
	return 0;
}

EXPORT DWORD WINAPI FwpmFilterEnum0(struct handle *h, unsigned *list, UINT32 most, FWPM_FILTER0 ***entries, UINT32 *n)
{
	struct page {
		FWPM_FILTER0 *entry[ROWS], filter[ROWS];
		struct filter copy[ROWS];
	} *p = calloc(1, sizeof *p);
	const struct engine *e = h->changing ? &h->copy : &enter()->engine;
	for (*n = 0; *n < most && *list < e->filters; ++*n, ++*list) {
		p->copy[*n] = e->filter[*list];
		p->entry[*n] = &p->filter[*n];
		p->filter[*n].filterId = p->copy[*n].id;
		p->filter[*n].providerKey = &p->copy[*n].provider;
		p->filter[*n].displayData.name = p->copy[*n].name;
	}
	if (!h->changing)
		leave();
	*entries = p->entry;
	return 0;
}

EXPORT DWORD WINAPI FwpmGetAppIdFromFileName0(const WCHAR *path, FWP_BYTE_BLOB **id)
{
	size_t size = (wcslen(PATH) + wcslen(path + 2) + 1) * sizeof(WCHAR); // path + 2: behind C:
	FWP_BYTE_BLOB *blob = calloc(1, sizeof *blob + size);
	blob->size = size;
	blob->data = (UINT8 *)(blob + 1);
	wcscpy((WCHAR *)blob->data, PATH);
	wcscat((WCHAR *)blob->data, path + 2);
	_wcslwr((WCHAR *)blob->data);
	*id = blob;
	return 0;
}

EXPORT void WINAPI FwpmFreeMemory0(void **memory)
{
	free(*memory);
	*memory = NULL;
}
