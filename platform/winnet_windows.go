package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/windows/tunnel/winipcfg"
)

// meant adds to the system's answer that there is nothing of the kind, or something
// already.
func meant(err error) error {
	switch {
	case errors.Is(err, windows.ERROR_NOT_FOUND), errors.Is(err, windows.ERROR_FILE_NOT_FOUND),
		errors.Is(err, fwpFilterNotFound), errors.Is(err, fwpSublayerNotFound), errors.Is(err, fwpProviderNotFound):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, windows.ERROR_OBJECT_ALREADY_EXISTS), errors.Is(err, fwpAlreadyExists):
		return fmt.Errorf("%w: %w", fs.ErrExist, err)
	}
	return rights(err)
}

// rights adds to the system's refusal what it means.
func rights(err error) error {
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%w (run it as administrator): %w", ErrNoRights, err)
	}
	return err
}

func family(ipv6 bool) winipcfg.AddressFamily {
	if ipv6 {
		return windows.AF_INET6
	}
	return windows.AF_INET
}

func readLinks() ([]winLink, error) {
	rows, err := winipcfg.GetIfTable2Ex(winipcfg.MibIfEntryNormal)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	hardware := map[winipcfg.LUID]bool{}
	for i := range rows {
		hardware[rows[i].InterfaceLUID] = rows[i].InterfaceAndOperStatusFlags&winipcfg.IAOSFHardwareInterface != 0
	}
	adapters, err := winipcfg.GetAdaptersAddresses(windows.AF_UNSPEC,
		winipcfg.GAAFlagSkipAnycast|winipcfg.GAAFlagSkipMulticast|winipcfg.GAAFlagIncludeAllInterfaces)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var links []winLink
	for _, a := range adapters {
		l := winLink{
			LUID: uint64(a.LUID), Index: a.IfIndex, GUID: a.AdapterName(), Name: a.FriendlyName(), Description: a.Description(),
			Kind: uint32(a.IfType), Up: a.OperStatus == winipcfg.IfOperStatusUp, Hardware: hardware[a.LUID],
			Metric4: a.Ipv4Metric, Metric6: a.Ipv6Metric,
		}
		if l.Index == 0 {
			l.Index = a.IPv6IfIndex
		}
		for u := a.FirstUnicastAddress; u != nil; u = u.Next {
			if addr, ok := netip.AddrFromSlice(u.Address.IP()); ok {
				l.Addresses = append(l.Addresses, netip.PrefixFrom(addr, int(u.OnLinkPrefixLength)))
			}
		}
		for d := a.FirstDNSServerAddress; d != nil; d = d.Next {
			if addr, ok := netip.AddrFromSlice(d.Address.IP()); ok {
				l.DNS = append(l.DNS, addr)
			}
		}
		for _, server := range []windows.SocketAddress{a.DHCPv4Server, a.DHCPv6Server} {
			if server.Sockaddr == nil {
				continue
			}
			if addr, ok := netip.AddrFromSlice(server.IP()); ok && addr.IsValid() && !addr.IsUnspecified() {
				l.DHCP = append(l.DHCP, addr)
			}
		}
		links = append(links, l)
	}
	return links, nil
}

func readSettings(luid uint64, ipv6 bool) (winSettings, error) {
	row, err := winipcfg.LUID(luid).IPInterface(family(ipv6))
	if err != nil {
		return winSettings{}, meant(err)
	}
	return winSettings{
		MTU: row.NLMTU, Metric: row.Metric, AutoMetric: row.UseAutomaticMetric,
		DADTransmits: row.DadTransmits, RouterDiscovery: int32(row.RouterDiscoveryBehavior),
	}, nil
}

func writeSettings(luid uint64, ipv6 bool, s winSettings) error {
	row, err := winipcfg.LUID(luid).IPInterface(family(ipv6))
	if err != nil {
		return meant(err)
	}
	row.NLMTU, row.Metric, row.UseAutomaticMetric = s.MTU, s.Metric, s.AutoMetric
	row.DadTransmits, row.RouterDiscoveryBehavior = s.DADTransmits, winipcfg.RouterDiscoveryBehavior(s.RouterDiscovery)
	return meant(row.Set())
}

func addAddress(luid uint64, a netip.Addr) error {
	return meant(winipcfg.LUID(luid).AddIPAddress(single(a)))
}

func removeAddress(luid uint64, a netip.Addr) error {
	return meant(winipcfg.LUID(luid).DeleteIPAddress(single(a)))
}

func readRoutes() ([]winRoute, error) {
	rows, err := winipcfg.GetIPForwardTable2(windows.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []winRoute
	for i := range rows {
		r := winRoute{
			LUID: uint64(rows[i].InterfaceLUID), Dst: rows[i].DestinationPrefix.Prefix(),
			NextHop: rows[i].NextHop.Addr().WithZone(""), Metric: rows[i].Metric,
		}
		if r.Dst.IsValid() && r.NextHop.IsValid() {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func addRoute(r winRoute) error {
	return meant(winipcfg.LUID(r.LUID).AddRoute(r.Dst, r.NextHop, r.Metric))
}

func removeRoute(r winRoute) error {
	return meant(winipcfg.LUID(r.LUID).DeleteRoute(r.Dst, r.NextHop))
}

func setNames(luid uint64, ipv6 bool, servers []netip.Addr, search []string) error {
	return meant(winipcfg.LUID(luid).SetDNS(family(ipv6), servers, search))
}

// notifyChanges registers with all three lists. Each change of one is a call.
func notifyChanges(f func()) (stop func(), err error) {
	var registered []winipcfg.ChangeCallback
	stop = func() {
		for _, r := range slices.Backward(registered) {
			_ = r.Unregister() // it calls nobody any more
		}
	}
	keep := func(r winipcfg.ChangeCallback, err error) error {
		if err == nil {
			registered = append(registered, r)
		}
		return err
	}
	err = keep(winipcfg.RegisterInterfaceChangeCallback(func(winipcfg.MibNotificationType, *winipcfg.MibIPInterfaceRow) { f() }))
	if err == nil {
		err = keep(winipcfg.RegisterUnicastAddressChangeCallback(func(winipcfg.MibNotificationType, *winipcfg.MibUnicastIPAddressRow) { f() }))
	}
	if err == nil {
		err = keep(winipcfg.RegisterRouteChangeCallback(func(winipcfg.MibNotificationType, *winipcfg.MibIPforwardRow2) { f() }))
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("notification of changes: %w", err)
	}
	return stop, nil
}

// reloadNames has the service read its parameters, as netsh does, and drop its cache.
func reloadNames() {
	if flush := windows.NewLazySystemDLL("dnsapi.dll").NewProc("DnsFlushResolverCache"); flush.Find() == nil {
		flush.Call()
	}
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return
	}
	defer windows.CloseServiceHandle(manager)
	service, err := windows.OpenService(manager, windows.StringToUTF16Ptr("dnscache"), windows.SERVICE_PAUSE_CONTINUE)
	if err != nil {
		return
	}
	defer windows.CloseServiceHandle(service)
	var status windows.SERVICE_STATUS
	_ = windows.ControlService(service, windows.SERVICE_CONTROL_PARAMCHANGE, &status)
}
