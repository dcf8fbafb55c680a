package profiles

import (
	"wayfarer/app"
)

// Embed makes a profile, before it is exported, as complete as one without secrets can
// be: certificates that stand in files are put into it. What stays outside is returned:
// the paths of files that hold a key, or that hold no PEM. The error names a file that
// cannot be read.
func Embed(p *app.Profile) (outside []string, err error) {
	if err := ReadCAs(p); err != nil {
		return nil, err
	}
	if p.Certificate != "" && !app.IsPEM([]byte(p.Certificate)) {
		text, err := AnyOwner(p.Certificate, false, maxCredentials)
		if err != nil {
			return nil, err
		}
		if app.IsPEM(text) && !app.HoldsKey(text) {
			p.Certificate = string(text)
		} else {
			outside = append(outside, p.Certificate)
		}
		clear(text)
	}
	if p.Key != "" {
		outside = append(outside, p.Key)
	}
	return outside, nil
}
